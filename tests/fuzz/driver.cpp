// Runs a fuzz target without libFuzzer: replays a corpus, then changes its inputs for as long as it is told.
//   fuzz_NAME [--seconds N] [--seed N] [--dictionary FILE] [--max-bytes N] [--limit-seconds N]
//   CORPUS_FOLDER_OR_FILE...

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <filesystem>
#include <iostream>
#include <string>
#include <vector>

#include "core/atomic_file.h"
#include "core/error.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/mutator.h"

namespace ferro::testing {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

struct Options {
  std::string name;
  std::uint64_t seconds = 0, seed = 1, max_bytes = 1 << 14, limit_seconds = 10, limit_mib = 2048;
  std::string dictionary;
  std::vector<fs::path> corpus;
};

std::uint64_t number_of(std::string_view option, std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size())
    fail(ErrorCode::kUsage, "{} {}: not a number", option, text);
  return value;
}

Options options_of(int count, char** arguments) {
  Options options;
  options.name = fs::path(arguments[0]).filename().string();
  for (int i = 1; i < count; ++i) {
    const std::string_view option = arguments[i];
    if (!option.starts_with("--")) {
      options.corpus.emplace_back(option);
      continue;
    }
    if (++i == count) fail(ErrorCode::kUsage, "{} needs a value", option);
    const std::string_view value = arguments[i];
    if (option == "--dictionary") {
      options.dictionary = value;
    } else if (option == "--seconds") {
      options.seconds = number_of(option, value);
    } else if (option == "--seed") {
      options.seed = number_of(option, value);
    } else if (option == "--max-bytes") {
      options.max_bytes = number_of(option, value);
    } else if (option == "--limit-seconds") {
      options.limit_seconds = number_of(option, value);
    } else {
      fail(ErrorCode::kUsage, "unknown option {}", option);
    }
  }
  return options;
}

/// Calls the target. The input lies in a file of its own while it runs, so that whatever ends the program
/// leaves it there; more processor time than the limit ends the program (SIGPROF).
class Runner {
 public:
  explicit Runner(const Options& options) : options_(options), path_(options.name + ".last-input") {
    file_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (file_ < 0) fail(ErrorCode::kIo, "{}: cannot be written", path_);
  }
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;
  ~Runner() { ::close(file_); }

  void run(const std::string& input) {
    const bool kept = ::ftruncate(file_, 0) == 0 &&
                      ::pwrite(file_, input.data(), input.size(), 0) == static_cast<ssize_t>(input.size());
    must_hold(kept, "the input cannot be kept");
    set_time_limit(options_.limit_seconds);
    LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(input.data()), input.size());
    set_time_limit(0);
    ++executions_;
    if (executions_ % 256 == 0) check_memory();
  }

  void finish() const {
    check_memory();
    fs::remove(path_);
  }

 private:
  static void set_time_limit(std::uint64_t seconds) {
    const itimerval limit{{0, 0}, {static_cast<time_t>(seconds), 0}};
    must_hold(::setitimer(ITIMER_PROF, &limit, nullptr) == 0, "no timer");
  }

  void check_memory() const {
    struct rusage usage {};
    ::getrusage(RUSAGE_SELF, &usage);
    if (static_cast<std::uint64_t>(usage.ru_maxrss) / 1024 <= options_.limit_mib) return;
    std::cerr << "peak memory " << usage.ru_maxrss / 1024 << " MiB\n";
    must_hold(false, "more memory than the limit");
  }

  const Options& options_;
  std::string path_;
  int file_ = -1;
  std::uint64_t executions_ = 0;
};

std::vector<std::string> read_corpus(const std::vector<fs::path>& places) {
  std::vector<fs::path> files;
  for (const fs::path& path : places) {
    if (!fs::is_directory(path)) {
      files.push_back(path);
      continue;
    }
    for (const auto& entry : fs::directory_iterator(path)) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  std::vector<std::string> inputs;
  for (const fs::path& file : files) inputs.push_back(read_file(file));
  if (inputs.empty()) fail(ErrorCode::kUsage, "no input: name a corpus folder");
  return inputs;
}

void fuzz(const Options& options) {
  const std::vector<std::string> corpus = read_corpus(options.corpus);
  Runner runner(options);
  runner.run("");
  for (const std::string& input : corpus) runner.run(input);
  std::cout << options.name << ": " << corpus.size() << " inputs replayed\n";
  if (options.seconds > 0) {
    const std::vector<std::string> words = options.dictionary.empty()
                                               ? std::vector<std::string>{}
                                               : read_dictionary(read_file(options.dictionary));
    const Mutator mutator(corpus, words, options.max_bytes);
    const auto begin = Clock::now(), end = begin + std::chrono::seconds(options.seconds);
    std::uint64_t number = 0;
    while (Clock::now() < end) runner.run(mutator.input(options.seed, number++));
    const std::chrono::duration<double> elapsed = Clock::now() - begin;
    std::cout << options.name << ": " << number << " changed inputs, "
              << static_cast<std::uint64_t>(static_cast<double>(number) / elapsed.count())
              << " a second, no finding (seed " << options.seed << ")\n";
  }
  runner.finish();
}

}  // namespace
}  // namespace ferro::testing

int main(int count, char** arguments) {
  try {
    ferro::testing::fuzz(ferro::testing::options_of(count, arguments));
    return 0;
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
