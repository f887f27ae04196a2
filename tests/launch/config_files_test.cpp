#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "core/atomic_file.h"
#include "core/config.h"
#include "core/error.h"
#include "launch/config_docs_page.h"
#include "launch/config_kinds.h"
#include "tests/core/expect_error.h"
#include "tests/core/scratch_folder.h"
#include "trainer/grpo_config.h"
#include "trainer/sft_config.h"

namespace ferro {
namespace {

std::vector<std::filesystem::path> presets() {
  std::vector<std::filesystem::path> files;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::filesystem::path(FERRO_SOURCE_DIR) / "configs"))
    if (entry.path().extension() == ".yaml") files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

TEST_CASE("docs/config.md is what `ferro config docs` prints") {
  CHECK(read_file(std::filesystem::path(FERRO_SOURCE_DIR) / "docs/config.md") == config_docs_page());
}

TEST_CASE("every preset reads, and starts with the block that says what it is for") {
  REQUIRE_FALSE(presets().empty());
  for (const auto& file : presets()) {
    INFO(file);
    CHECK_NOTHROW(asked_as_trained(file));
    const std::string text = read_file(file);
    CHECK(text.starts_with("#"));
    CHECK_THAT(text, Catch::Contains("# Purpose:") && Catch::Contains("# Hardware:"));
  }
}

TEST_CASE("the kind of a configuration is the one its keys fit") {
  const testing::ScratchFolder folder;
  write_file_atomically(folder / "a.yaml",
                        "model_name_or_path: m\nnum_generations: 4\ndata: {train_file: x}\n");
  write_file_atomically(folder / "b.yaml", "model_name_or_path: m\nloss_on: all\ndata: {train_file: x}\n");
  CHECK(detect_config_kind(folder / "a.yaml") == ConfigKind::kGrpo);
  CHECK(detect_config_kind(folder / "b.yaml") == ConfigKind::kSft);
}

TEST_CASE("evaluation asks as a training configuration does") {
  const testing::ScratchFolder folder;
  write_file_atomically(folder / "a.yaml",
                        "model_name_or_path: m\nnum_generations: 4\nmax_completion_length: 33\ndata: "
                        "{train_file: x, system_prompt: none, question: \"Why?\"}\n");
  const AskedAsTrained asked = asked_as_trained(folder / "a.yaml");
  CHECK(asked.max_new_tokens == 33);
  CHECK(asked.data.system_prompt == "none");
  CHECK(asked.data.question == "Why?");
}

TEST_CASE("a resolved configuration reads back to the same configuration") {
  const testing::ScratchFolder folder;
  for (const auto& file : presets()) {
    INFO(file);
    if (detect_config_kind(file) == ConfigKind::kGrpo) {
      const std::string resolved = dump_yaml(load_config<GrpoConfig>(file, {}));
      write_file_atomically(folder / "r.yaml", resolved);
      CHECK(dump_yaml(load_config<GrpoConfig>(folder / "r.yaml", {})) == resolved);
    } else {
      const std::string resolved = dump_yaml(load_config<SftConfig>(file, {}));
      write_file_atomically(folder / "r.yaml", resolved);
      CHECK(dump_yaml(load_config<SftConfig>(folder / "r.yaml", {})) == resolved);
    }
  }
}

}  // namespace
}  // namespace ferro
