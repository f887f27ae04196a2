#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>

#include "core/atomic_file.h"
#include "tests/core/scratch_folder.h"
#include "tests/launch/run_ferro.h"

namespace ferro::testing {
namespace {

namespace fs = std::filesystem;
using SteadyClock = std::chrono::steady_clock;

/// A port that was free a moment ago.
int free_port() {
  const int handle = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof name;
  REQUIRE(bind(handle, reinterpret_cast<sockaddr*>(&name), length) == 0);
  REQUIRE(getsockname(handle, reinterpret_cast<sockaddr*>(&name), &length) == 0);
  close(handle);
  return ntohs(name.sin_port);
}

/// One process of a job, with torchrun's variables in its environment.
class RankProcess {
 public:
  RankProcess(int rank, int world_size, int port, std::vector<std::string> arguments) {
    const std::string program = std::string(FERRO_BINARY_DIR) + "/bin/ferro";
    arguments.insert(arguments.begin(), program);
    std::vector<char*> pointers;
    for (std::string& word : arguments) pointers.push_back(word.data());
    pointers.push_back(nullptr);
    const std::string err = (folder_ / "err").string(), number = std::to_string(rank),
                      size = std::to_string(world_size), port_text = std::to_string(port);
    child_ = fork();
    if (child_ != 0) return;
    setenv("RANK", number.c_str(), 1);
    setenv("WORLD_SIZE", size.c_str(), 1);
    setenv("MASTER_ADDR", "127.0.0.1", 1);
    setenv("MASTER_PORT", port_text.c_str(), 1);
    setenv("OMP_NUM_THREADS", "1", 1);
    const int err_file = open(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (err_file < 0 || dup2(err_file, 2) < 0) _exit(126);
    execv(program.c_str(), pointers.data());
    _exit(127);
  }
  RankProcess(const RankProcess&) = delete;
  RankProcess& operator=(const RankProcess&) = delete;
  ~RankProcess() {
    if (code_ >= 0) return;
    kill(child_, SIGKILL);
    wait();
  }
  void send(int signal) const { kill(child_, signal); }
  int wait() {
    int status = 0;
    waitpid(child_, &status, 0);
    return code_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  std::string err() const { return read_file(folder_ / "err"); }

 private:
  ScratchFolder folder_;
  pid_t child_ = -1;
  int code_ = -1;
};

/// Faces, a fresh tiny model and a configuration for each job.
struct Workshop {
  ScratchFolder folder;

  Workshop() {
    succeed({"data", "faces", "--out", (folder / "faces").string(), "--count", "24", "--identities", "8"});
    succeed({"model", "init", "--tokenizer-text", (folder / "faces").string() + "/sft.json", "--out",
             base().string(), "--vocab-size", "400"});
    const std::string model = "model_name_or_path: " + base().string() +
                              "\nlogging_steps: 1\noptimizer: {learning_rate: 1.0e-3, lr_scheduler_type: "
                              "constant}\n";
    const std::string rows = "data: {system_prompt: none, train_file: " + (folder / "faces").string();
    write_file_atomically(folder / "sft.yaml",
                          model + "max_steps: 2\nper_device_train_batch_size: 7\n" + rows + "/sft.json}\n");
    // Any answer has some reward that differs from others': its length's.
    write_file_atomically(folder / "grpo.yaml",
                          model + "max_steps: 2\nprompts_per_step: 3\nnum_generations: 4\n" +
                              "max_completion_length: 8\noverlong_buffer: 8\nsave_rollouts_steps: 1\n" +
                              rows + "/rl.json}\n");
  }
  fs::path base() const { return folder / "base"; }
  std::vector<std::string> train(const std::string& job, const std::string& name,
                                 const std::vector<std::string>& settings = {}) const {
    std::vector<std::string> words{"train", job,
                                   "-c",    (folder / (job + ".yaml")).string(),
                                   "--set", "output_dir=" + (folder / name).string()};
    for (const std::string& setting : settings) {
      words.emplace_back("--set");
      words.push_back(setting);
    }
    return words;
  }
  fs::path weights(const std::string& name) const { return folder / name / "model/model.safetensors"; }

  /// Two processes; what each ended with, and its last words.
  struct Ends {
    std::vector<int> codes;
    std::vector<std::string> errors;
  };
  Ends on_two(const std::vector<std::string>& first, const std::vector<std::string>& second) const {
    const int port = free_port();
    RankProcess zero(0, 2, port, first), one(1, 2, port, second);
    Ends ends;
    ends.codes = {zero.wait(), one.wait()};
    ends.errors = {zero.err(), one.err()};
    return ends;
  }
  void succeed_on_two(const std::vector<std::string>& arguments) const {
    const Ends ends = on_two(arguments, arguments);
    INFO(ends.errors[0] << "\n---\n" << ends.errors[1]);
    REQUIRE(ends.codes == std::vector<int>{0, 0});
  }
};

/// All values of a file of fp32 tensors.
std::vector<float> values_of(const fs::path& safetensors) {
  const std::string bytes = read_file(safetensors);
  std::uint64_t header = 0;
  std::memcpy(&header, bytes.data(), sizeof header);
  const std::size_t begin = sizeof header + header;
  std::vector<float> values((bytes.size() - begin) / sizeof(float));
  std::memcpy(values.data(), bytes.data() + begin, values.size() * sizeof(float));
  return values;
}

/// Cosine of two updates of the same weights and their largest difference over the largest update.
struct Likeness {
  double cosine = 0, difference = 0;
};
Likeness likeness_of(const std::vector<float>& start, const std::vector<float>& a,
                     const std::vector<float>& b) {
  REQUIRE(a.size() == start.size());
  REQUIRE(b.size() == start.size());
  double dot = 0, aa = 0, bb = 0, largest = 0, difference = 0;
  for (std::size_t i = 0; i < start.size(); ++i) {
    const double x = static_cast<double>(a[i]) - static_cast<double>(start[i]),
                 y = static_cast<double>(b[i]) - static_cast<double>(start[i]);
    dot += x * y;
    aa += x * x;
    bb += y * y;
    largest = std::max(largest, std::abs(x));
    difference = std::max(difference, std::abs(x - y));
  }
  REQUIRE(largest > 0);
  return {dot / std::sqrt(aa * bb), difference / largest};
}

double seconds_since(SteadyClock::time_point begin) {
  return std::chrono::duration<double>(SteadyClock::now() - begin).count();
}

}  // namespace

TEST_CASE("two processes train the model that one does, and the same bytes each time") {
  const Workshop shop;
  for (const std::string job : {"sft", "grpo"}) {
    const std::vector<std::string> one_step{"max_steps=1"};
    succeed(shop.train(job, job + "_alone", one_step));
    shop.succeed_on_two(shop.train(job, job + "_first", one_step));
    const Likeness same =
        likeness_of(values_of(shop.base() / "model.safetensors"), values_of(shop.weights(job + "_alone")),
                    values_of(shop.weights(job + "_first")));
    INFO(job);
    CHECK(same.cosine >= 0.9995);
    CHECK(same.difference <= 0.25);
    shop.succeed_on_two(shop.train(job, job + "_a"));
    shop.succeed_on_two(shop.train(job, job + "_b"));
    CHECK(read_file(shop.weights(job + "_a")) == read_file(shop.weights(job + "_b")));
    CHECK(read_file(shop.folder / (job + "_a") / "metrics.jsonl") ==
          read_file(shop.folder / (job + "_b") / "metrics.jsonl"));
  }
}

TEST_CASE("when a rank is killed the other ends soon, with an error that says where") {
  const Workshop shop;
  for (const int killed : {0, 1}) {
    const std::string name = "killed_" + std::to_string(killed);
    const auto arguments = shop.train("sft", name, {"max_steps=100000"});
    const int port = free_port();
    RankProcess ranks[2] = {{0, 2, port, arguments}, {1, 2, port, arguments}};
    const auto begin = SteadyClock::now();
    while (!fs::exists(shop.folder / name / "metrics.jsonl") && seconds_since(begin) < 60)
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    ranks[killed].send(SIGKILL);
    const auto death = SteadyClock::now();
    RankProcess& left = ranks[1 - killed];
    CHECK(left.wait() == 69);
    CHECK(seconds_since(death) < 10);
    const std::string words = left.err();
    INFO(words);
    CHECK(words.find("rank " + std::to_string(1 - killed) + " of 2: collective") != std::string::npos);
    CHECK(ranks[killed].wait() == 128 + SIGKILL);
  }
}

TEST_CASE("a rank that never comes is an error within the bound") {
  const Workshop shop;
  for (const int present : {0, 1}) {
    const auto begin = SteadyClock::now();
    RankProcess rank(present, 2, free_port(), shop.train("sft", "lonely", {"ranks.start_timeout_s=2"}));
    CHECK(rank.wait() == 69);
    CHECK(seconds_since(begin) < 20);
    INFO(rank.err());
    CHECK(rank.err().find(present == 0 ? "rank 1 has not started" : "is rank 0 running") !=
          std::string::npos);
  }
}

TEST_CASE("processes that are told different things, or one of which fails, all end with what is wrong") {
  const Workshop shop;
  const auto ends = shop.on_two(shop.train("sft", "a"), shop.train("sft", "a", {"seed=7"}));
  for (const std::size_t rank : {std::size_t{0}, std::size_t{1}}) {
    CHECK(ends.codes[rank] == 78);
    CHECK(ends.errors[rank].find("seed differs between the ranks: rank 0 has `0`, rank 1 has `7`") !=
          std::string::npos);
  }
  // Only rank 0 looks at the folder.
  fs::create_directories(shop.folder / "taken/thesis");
  const auto taken = shop.on_two(shop.train("sft", "taken"), shop.train("sft", "taken"));
  CHECK(taken.codes == std::vector<int>{78, 78});
  CHECK(taken.errors[1].find("rank 0: output_dir") != std::string::npos);
}

TEST_CASE("a signal to one process stops all at a checkpoint, and they go on to the same bytes") {
  const Workshop shop;
  const std::vector<std::string> steps{"max_steps=30"};
  shop.succeed_on_two(shop.train("sft", "whole", steps));
  auto arguments = shop.train("sft", "stopped", steps);
  arguments.emplace_back("--resume");
  {
    const int port = free_port();
    RankProcess zero(0, 2, port, arguments), one(1, 2, port, arguments);
    const auto begin = SteadyClock::now();
    while (!fs::exists(shop.folder / "stopped/metrics.jsonl") && seconds_since(begin) < 60)
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    one.send(SIGTERM);
    CHECK(zero.wait() == 75);
    CHECK(one.wait() == 75);
  }
  shop.succeed_on_two(arguments);
  CHECK(read_file(shop.weights("whole")) == read_file(shop.weights("stopped")));
  CHECK(read_file(shop.folder / "whole/metrics.jsonl") == read_file(shop.folder / "stopped/metrics.jsonl"));
}

}  // namespace ferro::testing
