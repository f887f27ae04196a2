#include "launch/stage_report.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <map>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "core/atomic_file.h"
#include "core/error.h"
#include "launch/eval_report.h"
#include "launch/predictions.h"

namespace ferro {
namespace {

struct Stage {
  std::string title;
  double accuracy = 0, macro_recall = 0, macro_f1 = 0, format_rate = 0;
  std::vector<Prediction> predictions;
};

Stage read_stage(std::string title, const std::string& prefix) {
  Stage stage{std::move(title), 0, 0, 0, 0, read_predictions(prefix + ".jsonl")};
  const std::string file = prefix + ".json";
  try {
    const auto json = nlohmann::json::parse(read_file(file));
    stage.accuracy = json.at("accuracy").get<double>();
    stage.macro_recall = json.at("macro_recall").get<double>();
    stage.macro_f1 = json.at("macro_f1").get<double>();
    stage.format_rate = json.at("format_rate").get<double>();
  } catch (const nlohmann::json::exception& error) {
    fail(ErrorCode::kData, "{}: not a report as `ferro eval --json` writes it: {}", file, error.what());
  }
  return stage;
}

nlohmann::ordered_json seconds_of(const std::vector<std::string>& entries) {
  nlohmann::ordered_json seconds = nlohmann::ordered_json::object();
  for (const std::string& entry : entries) {
    const std::size_t equals = entry.find('=');
    double value = 0;
    const char* const end = entry.data() + entry.size();
    const char* const begin = equals == std::string::npos ? end : entry.data() + equals + 1;
    if (const auto [stopped, failure] = std::from_chars(begin, end, value);
        failure != std::errc{} || stopped != end)
      fail(ErrorCode::kUsage, "--seconds takes STAGE=SECONDS, not `{}`", entry);
    seconds[entry.substr(0, equals)] = value;
  }
  return seconds;
}

std::string one_line(std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

/// A right answer, a wrong one and a right one, spread over the rows; fewer kinds when there are not both.
std::vector<const Prediction*> pick_examples(const std::vector<Prediction>& predictions, std::size_t count) {
  std::vector<const Prediction*> picked;
  for (std::size_t i = 0; i < count && !predictions.empty(); ++i) {
    const bool want_right = i % 2 == 0;
    const std::size_t start = i * predictions.size() / count;
    const Prediction* choice = &predictions[start];
    for (std::size_t step = 0; step < predictions.size(); ++step) {
      const Prediction& candidate = predictions[(start + step) % predictions.size()];
      if ((candidate.predicted == candidate.truth) != want_right) continue;
      choice = &candidate;
      break;
    }
    picked.push_back(choice);
  }
  return picked;
}

std::string table(const std::array<Stage, 3>& stages) {
  std::string text = fmt::format("{:<34}{:>9}{:>14}{:>10}{:>14}\n", "held-out faces", "accuracy",
                                 "macro recall", "macro F1", "format right");
  for (const Stage& stage : stages)
    text += fmt::format("{:<34}{:>9.4f}{:>14.4f}{:>10.4f}{:>14.4f}\n", stage.title, stage.accuracy,
                        stage.macro_recall, stage.macro_f1, stage.format_rate);
  return text;
}

}  // namespace

StageReport stage_report(const StageReportOptions& options) {
  const std::array<Stage, 3> stages{read_stage("base (random weights)", options.base),
                                    read_stage("after the cold start (SFT)", options.sft),
                                    read_stage("after GRPO", options.grpo)};
  const PairedInterval gain = compare_predictions(stages[1].predictions, stages[2].predictions);

  StageReport report;
  report.text = table(stages) + "\n" + format_interval(gain, "SFT", "GRPO") + "\n";
  const auto examples = pick_examples(stages[2].predictions, options.examples);
  if (!examples.empty()) report.text += "\nExample answers after GRPO:\n";
  for (const Prediction* example : examples) {
    report.text +=
        fmt::format("  {} (true: {}, {})\n    {}\n", example->image_path, example->truth,
                    example->predicted == example->truth ? "right" : "wrong", one_line(example->response));
  }
  report.summary = {
      {"accuracy_base", stages[0].accuracy},
      {"accuracy_sft", stages[1].accuracy},
      {"accuracy_grpo", stages[2].accuracy},
      {"macro_recall_base", stages[0].macro_recall},
      {"macro_recall_sft", stages[1].macro_recall},
      {"macro_recall_grpo", stages[2].macro_recall},
      {"grpo_minus_sft",
       {{"difference", gain.difference}, {"low", gain.low}, {"high", gain.high}, {"rows", gain.count}}},
      {"faces", options.faces},
      {"held_out_faces", stages[2].predictions.size()},
      {"seconds", seconds_of(options.seconds)},
      {"seed", options.seed}};
  return report;
}

}  // namespace ferro
