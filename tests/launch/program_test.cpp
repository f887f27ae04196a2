#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "core/atomic_file.h"
#include "tests/core/scratch_folder.h"
#include "tests/launch/run_ferro.h"

namespace ferro::testing {
namespace {

using Words = std::vector<std::string>;

const std::vector<Words> kCommands{{},
                                   {"train"},
                                   {"train", "sft"},
                                   {"train", "grpo"},
                                   {"eval"},
                                   {"generate"},
                                   {"score"},
                                   {"data"},
                                   {"data", "faces"},
                                   {"data", "from-labels"},
                                   {"data", "check"},
                                   {"model"},
                                   {"model", "init"},
                                   {"model", "inspect"},
                                   {"config"},
                                   {"config", "docs"},
                                   {"config", "show"},
                                   {"config", "check"},
                                   {"report"}};

TEST_CASE("every command explains itself") {
  for (Words words : kCommands) {
    words.push_back("--help");
    const ProgramRun run = run_ferro(words);
    INFO("ferro " << (words.size() > 1 ? words[0] : "") << " --help: " << run.err);
    CHECK(run.exit_code == 0);
    CHECK(run.out.size() > 60);
    CHECK(run.err.empty());
  }
}

TEST_CASE("ferro --help answers in under 0.3 s when warm") {
  run_ferro({"--help"});
  double best = 1e9;
  for (int i = 0; i < 5; ++i) best = std::min(best, run_ferro({"--help"}).seconds);
  std::cout << "ferro --help: " << best << " s\n";
  CHECK(best < 0.3);
}

TEST_CASE("ferro --version names the version") {
  const ProgramRun run = run_ferro({"--version"});
  CHECK(run.exit_code == 0);
  CHECK_THAT(run.out, Catch::StartsWith("ferro 0."));
}

TEST_CASE("a misspelt command or option suggests the nearest and exits 64") {
  ProgramRun run = run_ferro({"trian", "sft"});
  CHECK(run.exit_code == 64);
  CHECK_THAT(run.err, Catch::Contains("trian") && Catch::Contains("`train`"));
  run = run_ferro({"train", "gpro", "-c", "x.yaml"});
  CHECK(run.exit_code == 64);
  CHECK_THAT(run.err, Catch::Contains("`grpo`"));
  run = run_ferro({"data", "faces", "--oot", "x"});
  CHECK(run.exit_code == 64);
  CHECK_THAT(run.err, Catch::Contains("`--out`"));
  run = run_ferro({"train", "sft"});
  CHECK(run.exit_code == 64);
  CHECK_THAT(run.err, Catch::Contains("--config"));
}

TEST_CASE("a wrong key in a configuration exits 78 with file, line and the nearest key") {
  const ScratchFolder folder;
  write_file_atomically(folder / "c.yaml",
                        "model_name_or_path: m\nlearning_rte: 1\ndata:\n  train_file: x\n");
  for (const Words& words :
       {Words{"train", "sft", "-c"}, Words{"config", "check"}, Words{"config", "show"}}) {
    Words all = words;
    all.push_back((folder / "c.yaml").string());
    const ProgramRun run = run_ferro(all);
    CHECK(run.exit_code == 78);
    CHECK_THAT(run.err, Catch::Contains("c.yaml:2") && Catch::Contains("learning_rte"));
  }
  write_file_atomically(folder / "d.yaml", "model_name_or_path: m\ndata:\n  train_flie: x\n");
  const ProgramRun run = run_ferro({"train", "grpo", "-c", (folder / "d.yaml").string()});
  CHECK(run.exit_code == 78);
  CHECK_THAT(run.err, Catch::Contains("d.yaml:3") && Catch::Contains("data.train_flie") &&
                          Catch::Contains("train_file"));
}

TEST_CASE("a missing file exits 74 and is named") {
  for (const Words& words :
       {Words{"train", "sft", "-c", "/no/such.yaml"}, Words{"data", "check", "/no/such.json"}}) {
    const ProgramRun run = run_ferro(words);
    CHECK(run.exit_code == 74);
    CHECK_THAT(run.err, Catch::Contains("/no/such."));
  }
}

TEST_CASE("an override by --set goes over the file") {
  const ScratchFolder folder;
  write_file_atomically(folder / "c.yaml", "model_name_or_path: m\nseed: 1\ndata: {train_file: x}\n");
  const ProgramRun run = run_ferro({"config", "show", (folder / "c.yaml").string(), "--set", "seed=5",
                                    "--set", "optimizer.learning_rate=0.25"});
  CHECK(run.exit_code == 0);
  CHECK_THAT(run.out, Catch::Contains("seed: 5") && Catch::Contains("learning_rate: 0.25"));
}

TEST_CASE("reward functions that do not exist are a configuration error, before anything is made") {
  const ScratchFolder folder;
  write_file_atomically(
      folder / "c.yaml",
      "model_name_or_path: m\ndata: {train_file: x}\nreward_functions: [accuracy, beauty]\n");
  const ProgramRun run = run_ferro({"config", "check", (folder / "c.yaml").string()});
  CHECK(run.exit_code == 78);
  CHECK_THAT(run.err, Catch::Contains("beauty") && Catch::Contains("accuracy, format"));
}

TEST_CASE("counts that no run can have are a configuration error that says what is allowed") {
  const ScratchFolder folder;
  const auto expect_refused = [&](const std::string& job, const std::string& line, const std::string& range) {
    write_file_atomically(folder / "c.yaml", "model_name_or_path: m\ndata: {train_file: x}\n" + line + "\n");
    const ProgramRun run = run_ferro({"config", "check", "--as", job, (folder / "c.yaml").string()});
    INFO(line);
    CHECK(run.exit_code == 78);
    CHECK_THAT(run.err, Catch::Contains("c.yaml:3") && Catch::Contains(range));
  };
  expect_refused("grpo", "prompts_per_step: 65537", "65536");
  expect_refused("grpo", "max_completion_length: 1048577", "1048576");
  expect_refused("sft", "max_new_tokens: 1048577", "1048576");
}

TEST_CASE("a truncated JSON file exits 65 with the place") {
  const ScratchFolder folder;
  write_file_atomically(folder / "d.json",
                        R"([{"image_path": "a.png", "problem": "?", "solution": "anger"}, {"image_pa)");
  const ProgramRun run = run_ferro({"data", "check", (folder / "d.json").string()});
  CHECK(run.exit_code == 65);
  CHECK_THAT(run.err, Catch::Contains("d.json"));
}

TEST_CASE("rows that cannot be used are set aside, counted and named") {
  const ScratchFolder folder;
  write_file_atomically(folder / "a.png", "any file will do: it is not decoded here");
  write_file_atomically(folder / "d.json", R"([{"image_path": "a.png", "problem": "?", "solution": "anger"},
    {"image_path": "gone.png", "problem": "?", "solution": "anger"},
    {"image_path": "a.png", "problem": "?"},
    {"image_path": "a.png", "problem": "?", "solution": 3}])");
  ProgramRun run = run_ferro({"data", "check", (folder / "d.json").string()});
  CHECK(run.exit_code == 0);
  CHECK_THAT(run.out, Catch::Contains("row 1: image_missing") && Catch::Contains("row 2: missing_field") &&
                          Catch::Contains("row 3: wrong_type") && Catch::Contains("anger"));
  run = run_ferro({"data", "check", "--strict", (folder / "d.json").string()});
  CHECK(run.exit_code == 65);
  CHECK_THAT(run.err, Catch::Contains("3 rows"));
}

TEST_CASE("a file whose rows are all unusable exits 65") {
  const ScratchFolder folder;
  write_file_atomically(folder / "d.json",
                        R"([{"image_path": "gone.png", "problem": "?", "solution": "anger"}])");
  CHECK(run_ferro({"data", "check", (folder / "d.json").string()}).exit_code == 65);
}

TEST_CASE("a command whose library was not built says how to build it") {
  if (FERRO_HAS_TORCH) {
    std::cout << "FERRO_SKIPPED: this build has LibTorch\n";
    return;
  }
  const ProgramRun run = run_ferro({"model", "inspect", "/no/such"});
  CHECK(run.exit_code == 64);
  CHECK_THAT(run.err, Catch::Contains("libferro_runtime.so") && Catch::Contains("cmake --preset release"));
}

TEST_CASE("the same seed draws the same faces") {
  if (!FERRO_HAS_SERVICES) {
    std::cout << "FERRO_SKIPPED: this build has no OpenCV\n";
    return;
  }
  const ScratchFolder folder;
  for (const char* name : {"a", "b"})
    REQUIRE(run_ferro({"data", "faces", "--out", (folder / name).string(), "--seed", "4", "--count", "16"})
                .exit_code == 0);
  for (const char* file :
       {"sft.json", "rl.json", "sft_labels.json", "images/000000.png", "images/000015.png"})
    CHECK(read_file(folder / "a" / file) == read_file(folder / "b" / file));
  const ProgramRun run =
      run_ferro({"data", "check", "--images", "--strict", (folder / "a" / "rl.json").string()});
  CHECK(run.exit_code == 0);
  CHECK_THAT(run.out, Catch::Contains("happiness"));
}

TEST_CASE("a drawn set is not mixed with another one") {
  if (!FERRO_HAS_SERVICES) {
    std::cout << "FERRO_SKIPPED: this build has no OpenCV\n";
    return;
  }
  const ScratchFolder folder;
  const std::string out = (folder / "a").string();
  REQUIRE(run_ferro({"data", "faces", "--out", out, "--count", "16"}).exit_code == 0);
  write_file_atomically(folder / "a" / "images" / "mine.png", "not drawn here");
  const ProgramRun again = run_ferro({"data", "faces", "--out", out, "--count", "8"});
  CHECK(again.exit_code == 64);
  CHECK_THAT(again.err, Catch::Contains("--overwrite"));
  CHECK(std::filesystem::exists(folder / "a" / "images" / "000015.png"));
  REQUIRE(run_ferro({"data", "faces", "--out", out, "--count", "8", "--overwrite"}).exit_code == 0);
  CHECK_FALSE(std::filesystem::exists(folder / "a" / "images" / "000015.png"));
  CHECK(std::filesystem::exists(folder / "a" / "images" / "mine.png"));
}

TEST_CASE("output that cannot be written ends with 74") {
  for (const char* command : {"config docs", "--help"}) {
    const int status = std::system(
        (std::string("'") + FERRO_BINARY_DIR + "/bin/ferro' " + command + " >/dev/full 2>/dev/null").c_str());
    REQUIRE(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 74);
  }
}

TEST_CASE("numbers out of range and unknown data sets exit 64 with what is allowed") {
  for (const Words& words : {Words{"data", "faces", "--out", "x", "--count", "0"},
                             Words{"eval", "--model", "m", "--batch-rows", "0"},
                             Words{"data", "faces", "--out", "x", "--seed", "-3"},
                             Words{"eval", "--model", "m", "--dataset", "nope"}}) {
    const ProgramRun run = run_ferro(words);
    CHECK(run.exit_code == 64);
    CHECK_THAT(run.err, Catch::Contains(words[words.size() - 2]));
    CHECK(run.err.size() < 300);
  }
}

}  // namespace
}  // namespace ferro::testing
