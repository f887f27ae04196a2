#include "trainer/checkpoint/checkpoint_folder.h"

#include <algorithm>
#include <fstream>

#include <catch2/catch.hpp>

#include "core/atomic_file.h"
#include "core/checksum.h"
#include "core/error.h"
#include "tests/core/scratch_folder.h"
#include "trainer/checkpoint/resume_rules.h"
#include "trainer/checkpoint/run_start.h"

namespace ferro {
namespace {

namespace fs = std::filesystem;
using testing::ScratchFolder;

void write_checkpoint(const fs::path& run, std::int64_t step) {
  CheckpointBuilder checkpoint(run, step);
  fs::create_directories(checkpoint.path() / "model");
  write_file_atomically(checkpoint.path() / "model/config.json", "{\"step\": " + std::to_string(step) + "}");
  write_file_atomically(checkpoint.path() / "model/weights", std::string(100, 'w'));
  write_file_atomically(checkpoint.path() / kStateFile, "{}");
  checkpoint.commit("2026-01-31T12:00:00Z", "0.1.0");
}

std::string message_of(const std::function<void()>& job, ErrorCode code) {
  try {
    job();
  } catch (const Error& error) {
    CHECK(error.code() == code);
    return error.what();
  }
  FAIL("no error");
  return "";
}

/// What read_manifest says of a manifest with this text.
std::string refusal(const ScratchFolder& folder, const std::string& text) {
  write_file_atomically(folder / kManifestFile, text);
  return message_of([&] { read_manifest(folder.path()); }, ErrorCode::kData);
}

}  // namespace

TEST_CASE(
    "one flipped byte or a cut in any file of a checkpoint leads to the one before and names the file") {
  const ScratchFolder run;
  write_checkpoint(run.path(), 1);
  write_checkpoint(run.path(), 2);
  CHECK(find_run_start(run.path(), "true", false).step == 2);
  for (const char* file : {"model/config.json", "model/weights", "state.json", "manifest.json"}) {
    const fs::path path = run / "checkpoints/step-000002" / file;
    const std::string whole = read_file(path);
    for (std::size_t at = 0; at < whole.size(); at += 1 + whole.size() / 40) {
      std::string flipped = whole;
      flipped[at] = static_cast<char>(flipped[at] ^ 4);
      write_file_atomically(path, flipped);
      const RunStart start = find_run_start(run.path(), "true", false);
      INFO(file << " byte " << at);
      CHECK(start.step == 1);
      REQUIRE(start.notes.size() == 1);
      CHECK_THAT(start.notes[0], Catch::Contains(file));
    }
    write_file_atomically(path, whole.substr(0, whole.size() - 1));
    CHECK(find_run_start(run.path(), "true", false).step == 1);
    fs::remove(path);
    CHECK(find_run_start(run.path(), "true", false).step == 1);
    write_file_atomically(path, whole);
    CHECK(find_run_start(run.path(), "true", false).step == 2);
  }
  fs::resize_file(run / "checkpoints/step-000001/state.json", 1);
  fs::resize_file(run / "checkpoints/step-000002/state.json", 1);
  CHECK_THAT(message_of([&] { find_run_start(run.path(), "true", false); }, ErrorCode::kData),
             Catch::Contains("step-000002/state.json") && Catch::Contains("step-000001/state.json"));
}

TEST_CASE("a manifest that asks for more than its folder is refused") {
  const ScratchFolder folder;
  const std::string sum = sha256_of("");
  const auto manifest = [&](const std::string& files) {
    return R"({"format": "ferro checkpoint", "format_version": 1, "step": 1, "created": "", "version": "", "files": )" +
           files + "}";
  };
  const auto file = [&](const std::string& path, const std::string& bytes) {
    return R"({"path": ")" + path + R"(", "bytes": )" + bytes + R"(, "sha256": ")" + sum + "\"}";
  };
  CHECK_THAT(refusal(folder, "[]"), Catch::Contains("manifest.json: not a JSON object"));
  CHECK_THAT(refusal(folder, "{"), Catch::Contains("not a JSON object"));
  CHECK_THAT(refusal(folder, "{}"), Catch::Contains("`format` is missing"));
  CHECK_THAT(refusal(folder, manifest("{}")), Catch::Contains("`files` is no list"));
  CHECK_THAT(refusal(folder, manifest("[]")), Catch::Contains("`state.json` is not among"));
  CHECK_THAT(refusal(folder, manifest("[1]")), Catch::Contains("no object"));
  for (const char* path : {"../x", "/etc/passwd", "a/../../b", "", "a//b", "./a", "a/", "a\\u0000b"})
    CHECK_THAT(refusal(folder, manifest("[" + file(path, "1") + "]")),
               Catch::Contains("is no path below the checkpoint"));
  for (const char* bytes : {"-1", "1.5", "\"7\"", "null", "1e30", "18446744073709551615"})
    CHECK_THAT(refusal(folder, manifest("[" + file("a", bytes) + "]")),
               Catch::Contains("`bytes` is no whole"));
  CHECK_THAT(refusal(folder, manifest("[" + file("a", "1") + "," + file("a", "1") + "]")),
             Catch::Contains("`a` is there twice"));
  CHECK_THAT(refusal(folder, manifest(R"([{"path": "a", "bytes": 1, "sha256": "XY"}])")),
             Catch::Contains("is no SHA-256"));
  CHECK_THAT(refusal(folder, manifest("[" + file("state.json", "1") + "]")),
             Catch::Contains("its bytes are not those that were written"));
  CHECK_THAT(refusal(folder, std::string(200'000, '[')), Catch::Contains("not a JSON object"));
  // A huge size is compared, never allocated.
  const Manifest huge{1, "", "", {{"state.json", std::uint64_t{1} << 53, sum}}};
  write_file_atomically(folder / kManifestFile, manifest_text(huge));
  write_file_atomically(folder / kStateFile, "{}");
  CHECK_THAT(damage_of(folder.path(), read_manifest(folder.path()), true).at(0),
             Catch::Contains("has 2 bytes, 9007199254740992 were written"));
  // A link out of the folder is no file of the checkpoint.
  fs::remove(folder / kStateFile);
  write_file_atomically(folder / "elsewhere", "");
  fs::create_symlink(folder / "elsewhere", folder / kStateFile);
  write_file_atomically(folder / kManifestFile, manifest_text({1, "", "", {{"state.json", 0, sum}}}));
  CHECK_THAT(damage_of(folder.path(), read_manifest(folder.path()), true).at(0),
             Catch::Contains("is a link"));
}

TEST_CASE("the newest checkpoints are kept, and what writers that died left goes") {
  const ScratchFolder run;
  for (const std::int64_t step : {5, 1'000'000, 20}) write_checkpoint(run.path(), step);
  fs::create_directories(run / "checkpoints/step-000030.tmp");
  fs::create_directories(run / "checkpoints/notes");
  remove_old_checkpoints(run.path(), 2);
  const auto found = checkpoints_in(run.path());
  REQUIRE(found.size() == 2);
  CHECK(found[0].step == 20);
  CHECK(found[1].step == 1'000'000);
  CHECK_FALSE(fs::exists(run / "checkpoints/step-000030.tmp"));
  CHECK(fs::exists(run / "checkpoints/notes"));
  for (const char* name : {"step-", "step-5", "step-00000x", "step-000005.tmp", "stop-000005", "step--00005"})
    CHECK_FALSE(step_of_name(name).has_value());
}

TEST_CASE("every start gets a number of its own, larger than all before") {
  const ScratchFolder run;
  CHECK(take_incarnation(run.path()) == 1);
  CHECK(take_incarnation(run.path()) == 2);
  write_file_atomically(run / "incarnations/000009", "");
  CHECK(take_incarnation(run.path()) == 10);
}

TEST_CASE("the page on checkpoints holds the table of settings that may change") {
  const std::string page = read_file(fs::path(FERRO_SOURCE_DIR) / "docs/checkpoints.md");
  for (const ChangeableSetting& setting : changeable_settings()) {
    const std::string key =
        std::string(setting.key) + (std::string_view(setting.key).ends_with('.') ? "*" : "");
    CHECK_THAT(page, Catch::Contains("| `" + key + "` | " + setting.effect + " |"));
  }
  CHECK(may_change_on_resume("guard.max_kl"));
  CHECK_FALSE(may_change_on_resume("guard"));
  CHECK_FALSE(may_change_on_resume("seed"));
  CHECK(refused_changes({{"seed", "1"}, {"max_steps", "1"}}, {{"seed", "2"}, {"max_steps", "3"}}) ==
        std::vector<std::string>{"seed: 1 -> 2"});
}

}  // namespace ferro
