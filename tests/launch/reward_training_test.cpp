#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "core/atomic_file.h"
#include "tests/core/scratch_folder.h"
#include "tests/launch/reward_process.h"
#include "tests/launch/run_ferro.h"

namespace ferro::testing {
namespace {

namespace fs = std::filesystem;

using nlohmann::json;

/// 48 drawn faces, a fresh tiny model, and a short GRPO run of one-token answers. The model cannot name an
/// expression yet, so the right answer of a row is made one of those that the model gives to it: without that
/// all rewards would be 0, and every judge the same.
struct Job {
  ScratchFolder folder;

  Job() {
    const std::string faces = (folder / "faces").string(), base = (folder / "base").string();
    REQUIRE(run_ferro({"data", "faces", "--out", faces, "--count", "48", "--identities", "20", "--seed", "2"})
                .exit_code == 0);
    REQUIRE(run_ferro({"model", "init", "--tokenizer-text", faces + "/sft.json", "--out", base,
                       "--vocab-size", "400"})
                .exit_code == 0);
    write_file_atomically(config(), "model_name_or_path: " + base +
                                        "\nmax_steps: 12\nprompts_per_step: 4\nnum_generations: 8\n"
                                        "max_completion_length: 1\ndata: {system_prompt: none, train_file: " +
                                        faces + "/rl.json}\noptimizer: {learning_rate: 1.0e-3}\n");
  }

  /// Rows that no answer of the model can be right on keep their solution.
  void take_solutions_from_the_model() const {
    std::vector<std::string> asking = command("asked", "");
    asking.insert(asking.end(), {"--set", "save_rollouts_steps=1"});
    REQUIRE(run_ferro(asking).exit_code == 0);
    const fs::path file = folder / "faces" / "rl.json";
    json rows = json::parse(read_file(file));
    for (const auto& entry : fs::directory_iterator(folder / "asked" / "rollouts")) {
      std::istringstream lines(read_file(entry.path()));
      for (std::string line; std::getline(lines, line);) {
        const json answer = json::parse(line);
        const auto text = answer.at("completion").get<std::string>();
        constexpr const char* kNotUtf8 = "\xEF\xBF\xBD";
        if (text.find_first_not_of(" \n\t<>") == std::string::npos ||
            text.find(kNotUtf8) != std::string::npos)
          continue;
        rows.at(answer.at("sample_id").get<std::size_t>())["solution"] = text;
      }
    }
    write_file_atomically(file, rows.dump());
  }
  std::string config() const { return (folder / "grpo.yaml").string(); }

  std::vector<std::string> command(const std::string& name, const std::string& endpoints) const {
    return {"train", "grpo",
            "-c",    config(),
            "--set", "output_dir=" + (folder / name).string(),
            "--set", "reward_service.endpoints=[" + endpoints + "]"};
  }
  std::string weights(const std::string& name) const {
    return read_file(folder / name / "model/model.safetensors");
  }
  json first_metrics(const std::string& name) const {
    const std::string text = metrics(name);
    return json::parse(text.substr(0, text.find('\n')));
  }
  std::string metrics(const std::string& name) const { return read_file(folder / name / "metrics.jsonl"); }
};

const std::vector<std::string> kAnyPort{"--listen", "127.0.0.1:0"};

}  // namespace

TEST_CASE("a run judged by services is byte for byte the run judged in its process, also when one dies") {
  const Job job;
  job.take_solutions_from_the_model();
  succeed(job.command("here", ""));
  // Verdicts matter to these weights.
  REQUIRE(job.first_metrics("here").at("grad_norm").get<double>() > 0);
  REQUIRE((job.weights("here") != job.weights("asked")));

  {
    RewardProcess first(kAnyPort), second(kAnyPort);
    succeed(job.command("services", first.address() + ", " + second.address()));
    CHECK(first.end(SIGTERM) == 0);
    CHECK(second.end(SIGTERM) == 0);
    // 12 steps of 4 groups, in turn.
    CHECK_THAT(first.errors(), Catch::Contains("24 groups judged"));
    CHECK_THAT(second.errors(), Catch::Contains("24 groups judged"));
  }
  CHECK((job.weights("services") == job.weights("here")));
  CHECK((job.metrics("services") == job.metrics("here")));

  std::optional<RewardProcess> service(std::in_place, kAnyPort);
  const std::string address = service->address();
  const ProgramRun killed = run_ferro(job.command("killed", address), [&](pid_t) {
    const fs::path metrics = job.folder / "killed" / "metrics.jsonl";
    while (!fs::exists(metrics) || fs::file_size(metrics) == 0)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    CHECK(service->end(SIGKILL) == 128 + SIGKILL);
    std::this_thread::sleep_for(std::chrono::milliseconds(500));  // The run finds nobody, and waits.
    service.emplace(std::vector<std::string>{"--listen", address});
  });
  INFO(killed.err);
  REQUIRE(killed.exit_code == 0);
  CHECK_THAT(killed.err, Catch::Contains("no reward service can be reached"));
  CHECK(service->end(SIGTERM) == 0);
  CHECK(service->errors().find(" 0 groups judged") == std::string::npos);
  CHECK((job.weights("killed") == job.weights("here")));
  CHECK((job.metrics("killed") == job.metrics("here")));
}

TEST_CASE("a service with other functions, or none that answers, stops a run before it begins") {
  const Job job;
  RewardProcess other({"--listen", "127.0.0.1:0", "--functions", "format"});
  const ProgramRun run = run_ferro(job.command("other", other.address()));
  CHECK(run.exit_code == 78);
  CHECK_THAT(run.err, Catch::Contains("accuracy, format") && Catch::Contains(other.address()));
  CHECK_FALSE(fs::exists(job.folder / "other"));
  const std::string address = other.address();
  other.end(SIGKILL);
  std::vector<std::string> command = job.command("nobody", address);
  command.insert(command.end(), {"--set", "reward_service.wait_seconds=0.5"});
  const ProgramRun nobody = run_ferro(command);
  CHECK(nobody.exit_code == 69);
  CHECK_THAT(nobody.err, Catch::Contains(address));
}

TEST_CASE("a build without gRPC says that it cannot ask a service") {
  const Job job;
  const fs::path build = FERRO_BINARY_DIR;
  fs::create_directories(job.folder / "built/bin");
  fs::create_directories(job.folder / "built/lib");
  fs::copy(build / "bin/ferro", job.folder / "built/bin/ferro");
  for (const char* library : {"libferro_runtime.so", "libferro_pictures.so"})
    fs::copy(build / "lib" / library, job.folder / "built/lib" / library);
  std::string line = "'" + (job.folder / "built/bin/ferro").string() + "'";
  for (const std::string& word : job.command("without", "127.0.0.1:1")) line += " '" + word + "'";
  const std::string err = (job.folder / "err").string();
  const int status = std::system((line + " 2>'" + err + "'").c_str());
  CHECK(WEXITSTATUS(status) == 78);
  CHECK_THAT(read_file(err), Catch::Contains("no gRPC") && Catch::Contains("FERRO_SERVICES=ON"));
}

}  // namespace ferro::testing
