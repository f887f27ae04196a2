#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "core/atomic_file.h"
#include "core/error.h"
#include "launch/predictions.h"
#include "launch/stage_report.h"
#include "launch/token_lines.h"
#include "tests/core/expect_error.h"
#include "tests/core/scratch_folder.h"

namespace ferro {
namespace {

using testing::expect_error;
using testing::ScratchFolder;

std::vector<Prediction> predictions(const std::string& said) {
  std::vector<Prediction> rows;
  for (std::size_t i = 0; i < said.size(); ++i)
    rows.push_back({static_cast<std::int64_t>(i), "images/x.png", "a", std::string(1, said[i]),
                    "<answer>\"\n</answer>"});
  return rows;
}

void write_stage(const std::filesystem::path& prefix, const std::string& said, double accuracy) {
  write_predictions(prefix.string() + ".jsonl", predictions(said));
  write_file_atomically(
      prefix.string() + ".json",
      nlohmann::json{{"accuracy", accuracy}, {"macro_recall", 0.5}, {"macro_f1", 0.5}, {"format_rate", 1.0}}
          .dump());
}

TEST_CASE("predictions come back as they were written") {
  const ScratchFolder folder;
  const auto written = predictions("ab");
  write_predictions(folder / "p.jsonl", written);
  const auto read = read_predictions(folder / "p.jsonl");
  REQUIRE(read.size() == 2);
  CHECK(read[1].id == 1);
  CHECK(read[1].predicted == "b");
  CHECK(read[1].truth == "a");
  CHECK(read[1].response == written[1].response);
}

TEST_CASE("a broken line of predictions is named") {
  const ScratchFolder folder;
  write_file_atomically(folder / "p.jsonl",
                        "{\"id\":0,\"truth\":\"a\",\"predicted\":\"a\"}\n{\"id\":1,\"tru");
  expect_error(ErrorCode::kData, [&] { read_predictions(folder / "p.jsonl"); }, {"p.jsonl", "line 2"});
}

TEST_CASE("only rows that both models answered are compared") {
  auto a = predictions("aab"), b = predictions("abb");
  b.erase(b.begin());
  const PairedInterval interval = compare_predictions(a, b);
  CHECK(interval.count == 2);
  CHECK(interval.only_a == 1);
  b[0].id = 17;
  b[1].truth = "c";
  expect_error(ErrorCode::kData, [&] { compare_predictions(a, b); }, {"in common"});
}

TEST_CASE("the stage report holds the accuracies, the paired gain and the times") {
  const ScratchFolder folder;
  write_stage(folder / "base", "bbbb", 0.0);
  write_stage(folder / "sft", "abbb", 0.25);
  write_stage(folder / "grpo", "aaab", 0.75);
  StageReportOptions options;
  options.base = (folder / "base").string();
  options.sft = (folder / "sft").string();
  options.grpo = (folder / "grpo").string();
  options.seconds = {"build=10", "grpo=2.5"};
  options.faces = 7;
  options.seed = 3;
  const StageReport report = stage_report(options);
  CHECK(report.summary["accuracy_base"] == 0.0);
  CHECK(report.summary["accuracy_sft"] == 0.25);
  CHECK(report.summary["accuracy_grpo"] == 0.75);
  CHECK(report.summary["grpo_minus_sft"]["difference"] == 0.5);
  CHECK(report.summary["seconds"]["grpo"] == 2.5);
  CHECK(report.summary["faces"] == 7);
  CHECK(report.summary["held_out_faces"] == 4);
  CHECK(report.summary["seed"] == 3);
  CHECK_THAT(report.text, Catch::Contains("GRPO - SFT = +50.0 points") && Catch::Contains("images/x.png"));
  options.examples = 0;
  CHECK_THAT(stage_report(options).text, !Catch::Contains("xample"));
  options.seconds = {"build"};
  expect_error(ErrorCode::kUsage, [&] { stage_report(options); }, {"build"});
}

TEST_CASE("a token line holds the log-prob exactly") {
  CHECK(token_line(4, {17, -0.15625F, "a\n"}) == "4\t17\t-0x1.4p-3\t\"a\\n\"\t610a\n");
  // The first two of the three bytes of a euro sign: no character, and still these bytes.
  CHECK(token_line(0, {1, 0, "\xe2\x82"}) == "0\t1\t0x0p+0\t\"\\ufffd\"\te282\n");
  CHECK(id_line({{{3, 0, ""}, {5, 0, ""}}, "", "stop"}) == "3 5");
}

}  // namespace
}  // namespace ferro
