#include <algorithm>
#include <filesystem>
#include <iostream>
#include <string>
#include <vector>

#include <sys/mount.h>
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "core/atomic_file.h"
#include "core/checksum.h"
#include "tests/core/scratch_folder.h"
#include "tests/data/image_encoders.h"
#include "tests/launch/run_ferro.h"

namespace ferro::testing {
namespace {

namespace fs = std::filesystem;

/// 48 drawn faces and a fresh tiny model, with configurations that train on them.
struct Workshop {
  ScratchFolder folder;

  Workshop() {
    succeed(
        {"data", "faces", "--out", faces().string(), "--count", "48", "--identities", "20", "--seed", "2"});
    succeed({"model", "init", "--tokenizer-text", (faces() / "sft.json").string(), "--out", base().string(),
             "--vocab-size", "400"});
    write_file_atomically(
        folder / "sft.yaml",
        "model_name_or_path: " + base().string() + "\noutput_dir: " + (folder / "sft").string() +
            "\noverwrite_output_dir: true\nmax_steps: 4\nlogging_steps: 1\n" +
            "per_device_train_batch_size: 8\nmax_new_tokens: 8\ndata: {system_prompt: none, train_file: " +
            (faces() / "sft.json").string() + "}\noptimizer: {learning_rate: 1.0e-3}\n");
    write_file_atomically(
        folder / "grpo.yaml",
        "model_name_or_path: " + base().string() + "\noutput_dir: " + (folder / "grpo").string() +
            "\noverwrite_output_dir: true\nmax_steps: 2\nprompts_per_step: 4\nnum_generations: 2\n" +
            "max_completion_length: 8\nloss: {beta: 0.04}\ndata: {system_prompt: none, train_file: " +
            (faces() / "rl.json").string() + "}\noptimizer: {learning_rate: 1.0e-3}\n");
  }

  fs::path faces() const { return folder / "faces"; }
  fs::path base() const { return folder / "base"; }
  std::string config(const std::string& job) const { return (folder / (job + ".yaml")).string(); }

  ProgramRun train(const std::string& job, std::vector<std::string> settings = {}) const {
    std::vector<std::string> words{"train", job, "-c", config(job)};
    for (std::string& setting : settings) {
      words.push_back("--set");
      words.push_back(std::move(setting));
    }
    return run_ferro(words);
  }
};

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

std::string as_text(const Bytes& bytes) {
  return {bytes.begin(), bytes.end()};
}

std::string bomb() {
  const PngParts parts{.width = 20000, .height = 20000, .depth = 1, .colour_type = 0};
  return as_text(png_around(parts, zlib_of_zeros(20000ULL * 2501)));
}

TEST_CASE("a run folder names its processes, and the hash of the final weights is that of the file") {
  const Workshop shop;
  for (const std::string job : {"sft", "grpo"}) {
    const ProgramRun run = shop.train(job);
    INFO(run.err);
    REQUIRE(run.exit_code == 0);
    const auto facts = nlohmann::json::parse(read_file(shop.folder / job / "provenance.json"));
    CHECK(facts["process_ids"]["trainer"].get<int>() > 0);
    CHECK(facts["weights_sha256"] == sha256_of_file(shop.folder / job / "model/model.safetensors"));
    succeed({"config", "show", (shop.folder / job / "config.yaml").string(), "--as", job});
  }
}

TEST_CASE("the same seed gives the same weights and metrics, byte for byte, and another seed does not") {
  const Workshop shop;
  for (const std::string job : {"sft", "grpo"}) {
    std::vector<std::string> weights, metrics;
    for (const char* seed : {"seed=7", "seed=7", "seed=8"}) {
      REQUIRE(shop.train(job, {seed}).exit_code == 0);
      weights.push_back(read_file(shop.folder / job / "model/model.safetensors"));
      metrics.push_back(read_file(shop.folder / job / "metrics.jsonl"));
    }
    CHECK(weights[0] == weights[1]);
    CHECK(metrics[0] == metrics[1]);
    CHECK(metrics[0] != metrics[2]);
  }
}

TEST_CASE("generate and score print the same log-probs of the same answers") {
  const Workshop shop;
  std::vector<std::string> asked{"--model",
                                 shop.base().string(),
                                 "--image",
                                 (shop.faces() / "images/000001.png").string(),
                                 "--prompt",
                                 "What is it?",
                                 "--system-prompt",
                                 "none",
                                 "-t",
                                 "0.8"};
  const auto with = [&](const std::string& command, const std::vector<std::string>& more) {
    std::vector<std::string> words{command};
    words.insert(words.end(), asked.begin(), asked.end());
    words.insert(words.end(), more.begin(), more.end());
    return succeed(words).out;
  };
  const std::string sampled = with("generate", {"-n", "9", "-g", "3", "--seed", "5", "--logprobs"});
  std::vector<std::string> given{"--logprobs"};
  for (const std::string& ids : lines_of(with("generate", {"-n", "9", "-g", "3", "--seed", "5", "--ids"}))) {
    given.push_back("--ids");
    given.push_back(ids);
  }
  CHECK(given.size() == 1 + 2 * 3);
  CHECK(sampled == with("score", given));
  CHECK_THAT(sampled, Catch::Contains("# answer 2\n0\t") && Catch::Contains("\t-0x"));
}

TEST_CASE("evaluation writes its figures, and compares two models on the same rows") {
  const Workshop shop;
  const std::string rows = (shop.faces() / "rl.json").string(), out = (shop.folder / "p.jsonl").string();
  const std::vector<std::string> first{"eval",
                                       "--model",
                                       shop.base().string(),
                                       "--data",
                                       rows,
                                       "--config",
                                       shop.config("grpo"),
                                       "--out",
                                       out,
                                       "--json",
                                       (shop.folder / "r.json").string()};
  CHECK_THAT(succeed(first).out,
             Catch::Contains("accuracy") && Catch::Contains("macro recall") && Catch::Contains("happiness"));
  const auto report = nlohmann::json::parse(read_file(shop.folder / "r.json"));
  CHECK(report["count"] == 48);
  CHECK(lines_of(read_file(out)).size() == 48);
  CHECK_THAT(succeed({"eval", "--model", shop.base().string(), "--data", rows, "--config",
                      shop.config("grpo"), "--compare", out})
                 .out,
             Catch::Contains("+0.0 points on the same 48 rows"));
}

TEST_CASE("a preprocessor that cuts other patches than the model takes ends with 65 and names both") {
  const Workshop shop;
  write_file_atomically(shop.base() / "preprocessor_config.json", R"({"patch_size": 7})");
  const ProgramRun run = shop.train("sft");
  CHECK(run.exit_code == 65);
  CHECK_THAT(run.err, Catch::Contains("patch_size is 7") && Catch::Contains("config.json says 12"));
}

TEST_CASE("a stopped run writes the metrics of its last step") {
  const Workshop shop;
  std::vector<std::string> words{"train", "sft",
                                 "-c",    shop.config("sft"),
                                 "--set", "max_steps=1000000",
                                 "--set", "logging_steps=1000000"};
  const fs::path config = shop.folder / "sft/config.yaml";
  const ProgramRun run = run_ferro(words, [&](pid_t child) {
    for (int tries = 0; tries < 60'000 && !fs::exists(config); ++tries) usleep(1000);
    kill(child, SIGTERM);
  });
  INFO(run.err);
  CHECK(run.exit_code == 75);
  CHECK(lines_of(read_file(shop.folder / "sft/metrics.jsonl")).size() == 1);
}

TEST_CASE("SIGTERM and SIGINT end training with 75 and a model that loads") {
  const Workshop shop;
  for (const int signal : {SIGTERM, SIGINT}) {
    std::vector<std::string> words{"train", "sft", "-c", shop.config("sft"), "--set", "max_steps=1000000"};
    const fs::path metrics = shop.folder / "sft/metrics.jsonl";
    fs::remove(metrics);
    const ProgramRun run = run_ferro(words, [&](pid_t child) {
      std::error_code absent;
      for (int tries = 0; tries < 60'000 && (!fs::exists(metrics) || fs::file_size(metrics, absent) == 0);
           ++tries)
        usleep(1000);
      kill(child, signal);
    });
    INFO(run.err);
    CHECK(run.exit_code == 75);
    CHECK_THAT(run.err, Catch::Contains("told to stop"));
    succeed({"model", "inspect", (shop.folder / "sft/model").string()});
  }
}

TEST_CASE(
    "rows whose image is missing, broken or far too large are set aside and counted, and training goes on") {
  const Workshop shop;
  const std::string rows =
      R"([{"image_path": "images/000000.png", "question": "?", "response": "<answer>fear</answer>"},
    {"image_path": "images/gone.png", "question": "?", "response": "<answer>fear</answer>"},
    {"image_path": "images/text.png", "question": "?", "response": "<answer>fear</answer>"},
    {"image_path": "images/bomb.png", "question": "?", "response": "<answer>fear</answer>"}])";
  write_file_atomically(shop.faces() / "faulty.json", rows);
  write_file_atomically(shop.faces() / "images/text.png", "this is no picture");
  REQUIRE(bomb().size() < 400'000);
  write_file_atomically(shop.faces() / "images/bomb.png", bomb());
  const ProgramRun run = shop.train("sft", {"data.train_file=" + (shop.faces() / "faulty.json").string()});
  INFO(run.err);
  REQUIRE(run.exit_code == 0);
  const std::string set_aside = read_file(shop.folder / "sft/set_aside.jsonl");
  CHECK(lines_of(set_aside).size() == 3);
  CHECK_THAT(set_aside, Catch::Contains("image_missing") && Catch::Contains("image_unreadable") &&
                            Catch::Contains("20000 x 20000"));

  const ProgramRun checked =
      run_ferro({"data", "check", "--images", (shop.faces() / "faulty.json").string()});
  CHECK(checked.exit_code == 0);
  CHECK_THAT(checked.out, Catch::Contains("row 1: image_missing") &&
                              Catch::Contains("row 2: image_unreadable") &&
                              Catch::Contains("row 3: image_unreadable"));
}

TEST_CASE("when no row has a readable image, training ends with 65 and names one") {
  const Workshop shop;
  write_file_atomically(shop.faces() / "images/text.png", "this is no picture");
  write_file_atomically(shop.faces() / "bad.json",
                        R"([{"image_path": "images/text.png", "question": "?", "response": "x"}])");
  const ProgramRun run = shop.train("sft", {"data.train_file=" + (shop.faces() / "bad.json").string()});
  CHECK(run.exit_code == 65);
  CHECK_THAT(run.err, Catch::Contains("text.png"));
  CHECK_THAT(read_file(shop.folder / "sft/set_aside.jsonl"), Catch::Contains("text.png"));
}

TEST_CASE("a run that could use no row of its steps ends with 65 and saves no model") {
  const Workshop shop;
  for (const char* job : {"sft", "grpo"}) {
    const ProgramRun run = shop.train(job, {"data.max_prompt_length=3"});
    CHECK(run.exit_code == 65);
    CHECK_THAT(run.err, Catch::Contains("set_aside.jsonl"));
    CHECK_FALSE(fs::exists(shop.folder / job / "model"));
  }
}

TEST_CASE("asking about an image that is broken or far too large ends with 65 at once") {
  const Workshop shop;
  write_file_atomically(shop.folder / "text.png", "this is no picture");
  write_file_atomically(shop.folder / "bomb.png", bomb());
  for (const char* name : {"text.png", "bomb.png"}) {
    const ProgramRun run =
        run_ferro({"generate", "-m", shop.base().string(), "-p", "?", "-i", (shop.folder / name).string()});
    CHECK(run.exit_code == 65);
    CHECK_THAT(run.err, Catch::Contains(name));
  }
}

/// A file system of a given size, unmounted at the end.
class SmallDisk {
 public:
  SmallDisk(fs::path place, const char* options) : place_(std::move(place)) {
    fs::create_directories(place_);
    mounted_ = mount("tmpfs", place_.c_str(), "tmpfs", 0, options) == 0;
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;
  ~SmallDisk() {
    if (mounted_) umount(place_.c_str());
  }
  bool mounted() const { return mounted_; }

 private:
  fs::path place_;
  bool mounted_ = false;
};

TEST_CASE("a full disk on save ends with 74 and leaves nothing half written") {
  const Workshop shop;
  const fs::path place = shop.folder / "disk";
  const SmallDisk disk(place, "size=3m");  // The weights alone take over 6 MB.
  if (!disk.mounted()) {
    std::cout << "FERRO_SKIPPED: mounting a tmpfs needs root\n";
    return;
  }
  const ProgramRun made = run_ferro({"model", "init", "--tokenizer-text",
                                     (shop.faces() / "sft.json").string(), "--out", (place / "m").string()});
  CHECK(made.exit_code == 74);
  CHECK_THAT(made.err, Catch::Contains("No space left") && Catch::Contains("model.safetensors"));
  CHECK(fs::is_empty(place));

  const ProgramRun trained = shop.train("sft", {"output_dir=" + (place / "run").string()});
  CHECK(trained.exit_code == 74);
  for (const auto& entry : fs::directory_iterator(place / "run"))
    CHECK_THAT(entry.path().filename().string(), !Catch::StartsWith("model"));
}

TEST_CASE("a training run of the tiny model is over its first step within 3 s") {
  const Workshop shop;
  double best = 1e9;
  for (int i = 0; i < 3; ++i) best = std::min(best, shop.train("sft", {"max_steps=1"}).seconds);
  std::cout << "first step and save of the tiny model: " << best << " s\n";
  CHECK(best < 3);
}

}  // namespace
}  // namespace ferro::testing
