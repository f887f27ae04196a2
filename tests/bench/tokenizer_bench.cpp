// MB/s of encoding English text on one core, and of Hugging Face's tokenizers (Rust) on the same texts in the
// same run. Usage: tokenizer_bench [folder with tokenizer.json]. FERRO_PYTHON names a Python that has the
// package `tokenizers` (else python3 is asked); without it only our own figure is printed.
#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "core/atomic_file.h"
#include "data/tokenizer.h"
#include "tests/bench/bench_timing.h"
#include "tests/core/scratch_folder.h"
#include "tests/golden.h"

namespace ferro::bench {
namespace {

namespace fs = std::filesystem;

/// Files of English prose: the licences every Debian system has, and this project's own pages.
std::vector<fs::path> english_files() {
  std::vector<fs::path> files;
  const auto add = [&](const fs::path& folder, std::string_view extension) {
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator(folder, ignored)) {
      const bool wanted = extension.empty() || entry.path().extension() == extension;
      if (wanted && entry.is_regular_file() && !entry.is_symlink()) files.push_back(entry.path());
    }
  };
  add("/usr/share/common-licenses", "");
  add(fs::path(FERRO_SOURCE_DIR) / "docs", ".md");
  std::sort(files.begin(), files.end());
  return files;
}

struct Speed {
  double first_mb_s = 0, best_mb_s = 0;
  std::uint64_t ids = 0, checksum = 0;
};

/// The same in tokenizer_peer.py.
void add_ids(Speed& speed, const std::vector<std::int32_t>& ids) {
  speed.ids += ids.size();
  for (const std::int32_t id : ids)
    speed.checksum = (speed.checksum * 31 + static_cast<std::uint64_t>(id)) % 1000000007;
}

Speed measure_ours(const fs::path& tokenizer_folder, const std::vector<std::string>& texts,
                   double megabytes) {
  const Tokenizer tokenizer = Tokenizer::load(tokenizer_folder);
  std::size_t count = 0;
  const auto pass = [&] {
    for (const std::string& text : texts) count += tokenizer.encode(text).size();
  };
  const double begin = seconds_now(true);
  pass();
  Speed speed{.first_mb_s = megabytes / (seconds_now(true) - begin)};
  speed.best_mb_s = megabytes / best_seconds(true, pass, 2.0);
  for (const std::string& text : texts) add_ids(speed, tokenizer.encode(text));
  return speed;
}

/// What the command prints, or nothing when it fails.
std::string output_of(const std::string& command) {
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(::popen(command.c_str(), "r"), &::pclose);
  std::string output;
  char buffer[4096];
  while (pipe != nullptr && std::fgets(buffer, sizeof(buffer), pipe.get()) != nullptr) output += buffer;
  return output;
}

int run(const fs::path& tokenizer_folder) {
  const testing::ScratchFolder scratch;
  std::vector<std::string> texts;
  nlohmann::json listed = nlohmann::json::array();
  std::size_t bytes = 0;
  for (const fs::path& file : english_files()) {
    texts.push_back(read_file(file));
    listed.push_back(file.string());
    bytes += texts.back().size();
  }
  const double megabytes = static_cast<double>(bytes) / 1e6;
  write_file_atomically(scratch / "files.json", listed.dump());
  const Speed ours = measure_ours(tokenizer_folder, texts, megabytes);
  fmt::print("{} English texts, {:.3f} MB, {} tokens; {}, load {}\n", texts.size(), megabytes, ours.ids,
             processor_name(), load_average());
  fmt::print("ferro                    first pass {:6.2f} MB/s  best pass {:6.2f} MB/s\n", ours.first_mb_s,
             ours.best_mb_s);

  const char* python = std::getenv("FERRO_PYTHON");
  const std::string output =
      output_of(fmt::format("'{}' '{}/tests/bench/tokenizer_peer.py' '{}/tokenizer.json' '{}'",
                            python != nullptr ? python : "python3", FERRO_SOURCE_DIR,
                            tokenizer_folder.string(), (scratch / "files.json").string()));
  const nlohmann::json peer = nlohmann::json::parse(output, nullptr, false);
  if (!peer.is_object()) {
    fmt::print("Hugging Face tokenizers: absent (FERRO_PYTHON names a Python that has the package)\n");
    return 0;
  }
  const double first = megabytes / peer.at("first_seconds").get<double>(),
               best = megabytes / peer.at("best_seconds").get<double>();
  fmt::print("Hugging Face {:11} first pass {:6.2f} MB/s  best pass {:6.2f} MB/s\n",
             peer.at("version").get<std::string>(), first, best);
  fmt::print("ratio                    first pass {:6.2f}       best pass {:6.2f}\n", ours.first_mb_s / first,
             ours.best_mb_s / best);
  const bool same = peer.at("ids") == ours.ids && peer.at("checksum") == ours.checksum;
  fmt::print("ids: {}\n", same ? "the same" : "NOT the same");
  return same ? 0 : 1;
}

}  // namespace
}  // namespace ferro::bench

int main(int count, char** arguments) {
  const auto folder =
      count > 1 ? std::optional<std::filesystem::path>(arguments[1]) : ferro::testing::tokenizer_dir();
  if (!folder) {
    fmt::print("FERRO_SKIPPED: the Qwen2.5-VL tokenizer folder is absent\n");
    return 0;
  }
  return ferro::bench::run(*folder);
}
