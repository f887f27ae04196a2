#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "core/atomic_file.h"
#include "tests/core/scratch_folder.h"
#include "tests/launch/run_ferro.h"

namespace ferro::testing {
namespace {

namespace fs = std::filesystem;

/// Faces, a fresh tiny model and a configuration for each job that writes a checkpoint every second step.
struct Workshop {
  ScratchFolder folder;

  Workshop() {
    succeed({"data", "faces", "--out", (folder / "faces").string(), "--count", "24", "--identities", "8"});
    succeed({"model", "init", "--tokenizer-text", (folder / "faces").string() + "/sft.json", "--out",
             (folder / "base").string(), "--vocab-size", "400"});
    const std::string model = "model_name_or_path: " + (folder / "base").string() +
                              "\nlogging_steps: 3\nsave_steps: 2\noptimizer: {learning_rate: 1.0e-3}\n";
    const std::string rows = "data: {system_prompt: none, train_file: " + (folder / "faces").string();
    write_file_atomically(folder / "sft.yaml",
                          model + "max_steps: 6\nper_device_train_batch_size: 8\n" + rows + "/sft.json}\n");
    write_file_atomically(folder / "grpo.yaml",
                          model + "max_steps: 6\nprompts_per_step: 4\nnum_generations: 2\n" +
                              "max_completion_length: 8\nsave_rollouts_steps: 1\n" + rows + "/rl.json}\n");
  }

  fs::path out(const std::string& name) const { return folder / name; }
  std::vector<std::string> train(const std::string& job, const std::string& name) const {
    return {"train",
            job,
            "-c",
            (folder / (job + ".yaml")).string(),
            "--resume",
            "--set",
            "output_dir=" + out(name).string()};
  }
  /// Dies at the point's n-th passing.
  void kill_at(const std::string& job, const std::string& name, const std::string& point) const {
    ::setenv("FERRO_FAIL_POINT", point.c_str(), 1);
    const ProgramRun killed = run_ferro(train(job, name));
    ::unsetenv("FERRO_FAIL_POINT");
    INFO(point << "\n" << killed.err);
    CHECK(killed.exit_code == 128 + SIGKILL);
  }
  void check_same(const std::string& a, const std::string& b) const {
    for (const char* file :
         {"model/model.safetensors", "metrics.jsonl",
          "checkpoints/step-000006/optimizer/rank-000.safetensors", "rollouts/step-000005.jsonl"}) {
      INFO(b << " " << file);
      CHECK(fs::exists(out(a) / file) == fs::exists(out(b) / file));
      if (fs::exists(out(a) / file)) CHECK(read_file(out(a) / file) == read_file(out(b) / file));
    }
  }
};

}  // namespace

TEST_CASE("a run killed at any stage of writing a checkpoint resumes to the same bytes") {
  const Workshop shop;
  for (const std::string job : {"sft", "grpo"}) {
    succeed(shop.train(job, job));
    // The second checkpoint, so that there is one to go back to; then the first, so that there is none.
    for (const char* point :
         {"checkpoint.begun:2", "checkpoint.weights:2", "checkpoint.moments:2", "checkpoint.optimizer:2",
          "checkpoint.files:2", "checkpoint.synced:2", "checkpoint.manifest:2", "checkpoint.renamed:2",
          "checkpoint.retired:1", "checkpoint.done:3", "checkpoint.manifest:1"}) {
      if (job == "grpo" && std::string(point).find("manifest") == std::string::npos) continue;
      const std::string name = job + "_" + point;
      shop.kill_at(job, name, point);
      succeed(shop.train(job, name));
      shop.check_same(job, name);
      CHECK(std::distance(fs::directory_iterator(shop.out(name) / "checkpoints"), {}) == 2);
    }
  }
}

TEST_CASE("a run killed again and again, while it trains and while it saves, ends as an undisturbed one") {
  const Workshop shop;
  succeed(shop.train("sft", "whole"));
  for (const char* point :
       {"train.step:1", "train.step:3", "checkpoint.synced:1", "train.step:2", "train.step:1"})
    shop.kill_at("sft", "killed", point);
  succeed(shop.train("sft", "killed"));
  shop.check_same("whole", "killed");
}

TEST_CASE("SIGTERM ends with 75, and the same command goes on to the same bytes") {
  const Workshop shop;
  succeed(shop.train("sft", "whole"));
  ProgramRun run = run_ferro(shop.train("sft", "stopped"), [&](pid_t child) {
    for (int tries = 0; tries < 60'000 && !fs::exists(shop.out("stopped") / "config.yaml"); ++tries)
      usleep(1000);
    kill(child, SIGTERM);
  });
  INFO(run.err);
  CHECK(run.exit_code == 75);
  CHECK_THAT(run.err, Catch::Contains("--resume goes on"));
  succeed(shop.train("sft", "stopped"));
  shop.check_same("whole", "stopped");
}

TEST_CASE("checkpoints are listed, verified and exported, and damage is named") {
  const Workshop shop;
  succeed(shop.train("sft", "run"));
  const std::string run = shop.out("run").string();
  CHECK_THAT(succeed({"checkpoint", "list", run}).out,
             Catch::Contains("        4  ") && Catch::Contains("        6  ") && Catch::Contains("whole"));
  CHECK_THAT(succeed({"checkpoint", "verify", run}).out, Catch::Contains("step-000006: whole"));
  const std::string out = shop.out("exported").string();
  succeed({"checkpoint", "export", run, "-o", out});
  CHECK(read_file(out + "/model.safetensors") == read_file(run + "/model/model.safetensors"));
  CHECK_THAT(succeed({"model", "inspect", out}).out, Catch::Contains("sha256"));
  CHECK(run_ferro({"checkpoint", "export", run, "-o", out}).exit_code == 64);

  const fs::path file = run + "/checkpoints/step-000006/optimizer/rank-000.safetensors";
  std::string bytes = read_file(file);
  bytes[bytes.size() / 2] ^= 1;
  write_file_atomically(file, bytes);
  const ProgramRun verified = run_ferro({"checkpoint", "verify", run});
  CHECK(verified.exit_code == 65);
  CHECK_THAT(verified.out,
             Catch::Contains("rank-000.safetensors: has SHA-256") && Catch::Contains("4: whole"));
  const std::vector<std::string> longer = [&] {
    std::vector<std::string> words = shop.train("sft", "run");
    words.insert(words.end(), {"--set", "max_steps=7"});
    return words;
  }();
  const ProgramRun resumed = succeed(longer);
  CHECK_THAT(resumed.err,
             Catch::Contains("rank-000.safetensors: has SHA-256") && Catch::Contains("after step 4"));
  CHECK(run_ferro({"checkpoint", "verify", shop.out("faces").string()}).exit_code == 65);
  CHECK(run_ferro({"checkpoint", "list", shop.out("absent").string()}).exit_code == 74);
  CHECK(run_ferro({"checkpoint"}).exit_code == 64);
}

}  // namespace ferro::testing
