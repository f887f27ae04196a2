#include "trainer/evaluation.h"

#include <algorithm>
#include <optional>
#include <set>

#include "core/error.h"
#include "reward/reward_function.h"
#include "rollout/engine.h"
#include "trainer/policy_setup.h"
#include "trainer/sample_stream.h"

namespace ferro {
namespace {

struct GreedyAnswer {
  std::string text;
  std::int64_t length = 0;
};

// Keeps `batch_rows` questions running; prompts are prepared ahead on the stream's thread.
class GreedyAnswers {
 public:
  GreedyAnswers(const Model& model, const Tokenizer& tokenizer, const EvaluationOptions& options)
      : model_(model), tokenizer_(tokenizer), options_(options) {
    sampling_.temperature = 0;
    sampling_.max_completion_length = options.max_new_tokens;
    sampling_.stop_ids = model.config.stop_ids();
    sampling_.banned_ids = banned_ids_of(model.config);
  }

  void ask(std::int64_t row, std::shared_ptr<const Prompt> prompt) {
    make_room(static_cast<std::int64_t>(prompt->ids.size()));
    engine_->submit({.sample_id = row,
                     .epoch = 0,
                     .num_generations = 1,
                     .prompt = std::move(prompt),
                     .sampling = sampling_});
    if (++running_ >= options_.batch_rows) receive_one();
  }
  std::map<std::int64_t, GreedyAnswer> finish() {
    while (running_ > 0) receive_one();
    return std::move(answers_);
  }

 private:
  // The cache holds batch_rows of the longest prompt so far; a longer one gets a new engine.
  void make_room(std::int64_t prompt_length) {
    if (engine_ && prompt_length <= longest_) return;
    while (running_ > 0) receive_one();
    longest_ = std::max(longest_, prompt_length + prompt_length / 4);
    const std::int64_t rows = options_.batch_rows * (longest_ + options_.max_new_tokens + 1);
    engine_.reset();
    engine_ = std::make_unique<RolloutEngine>(
        model_, tokenizer_,
        EngineOptions{.kv_cache_tokens = rows, .max_running_sequences = options_.batch_rows});
  }
  void receive_one() {
    std::optional<RolloutGroup> group = engine_->receive();
    FERRO_CHECK(group.has_value() && group->completions.size() == 1, "{} answers are outstanding, none came",
                running_);
    Completion& completion = group->completions[0];
    answers_[group->request.sample_id] = {std::move(completion.text),
                                          static_cast<std::int64_t>(completion.token_ids.size())};
    --running_;
  }

  const Model& model_;
  const Tokenizer& tokenizer_;
  const EvaluationOptions& options_;
  SamplingParams sampling_;
  std::unique_ptr<RolloutEngine> engine_;
  std::int64_t longest_ = 0, running_ = 0;
  std::map<std::int64_t, GreedyAnswer> answers_;
};

std::vector<std::string> distinct_labels(const std::vector<Row>& rows) {
  std::set<std::string> labels;
  for (const Row& row : rows) labels.insert(label_of(row));
  return {labels.begin(), labels.end()};
}

EvaluationResult judge(const std::vector<Row>& rows, std::map<std::int64_t, GreedyAnswer> answers,
                       const std::string& dataset) {
  const std::vector<std::string> labels = distinct_labels(rows);
  const RewardFunction& format = find_reward_function("format");
  EvaluationResult result;
  std::vector<std::string> truth, predicted;
  for (auto& [index, answer] : answers) {
    const Row& row = rows[static_cast<std::size_t>(index)];
    const std::vector<std::string>& candidates = row.candidate_labels.empty() ? labels : row.candidate_labels;
    truth.push_back(label_of(row));
    predicted.push_back(extract_label(answer.text, candidates, dataset));
    result.mean_completion_length += static_cast<double>(answer.length);
    result.format_rate += format.judge({answer.text, row.solution, row.question}).value.value_or(0.0);
    result.rows.push_back({row.id, row.image_path, truth.back(), predicted.back(), std::move(answer.text)});
  }
  result.report = classification_report(truth, predicted);
  if (const auto count = static_cast<double>(result.rows.size()); count > 0) {
    result.mean_completion_length /= count;
    result.format_rate /= count;
  }
  return result;
}

}  // namespace

EvaluationResult evaluate(const Model& model, const Tokenizer& tokenizer, const PromptBuilder& prompts,
                          const std::vector<Row>& rows, const EvaluationOptions& options) {
  if (rows.empty()) return {};
  const auto count = static_cast<std::int64_t>(rows.size());
  const std::int64_t per_step = std::min<std::int64_t>(options.batch_rows, 64);
  SampleStream stream(
      rows, "evaluation", prompts,
      {.rows_per_step = per_step, .steps = steps_per_epoch(count, per_step), .shuffle = false});
  GreedyAnswers answers(model, tokenizer, options);
  std::int64_t set_aside = 0;
  while (std::optional<SampleBatch> batch = stream.next()) {
    for (Sample& sample : batch->samples) answers.ask(sample.row, std::move(sample.prompt));
    set_aside += static_cast<std::int64_t>(batch->set_aside.size());
  }
  EvaluationResult result = judge(rows, answers.finish(), options.dataset);
  result.set_aside = set_aside;
  return result;
}

nlohmann::ordered_json report_of(const EvaluationResult& result) {
  const ClassificationReport& report = result.report;
  nlohmann::ordered_json classes = nlohmann::ordered_json::array();
  for (const ClassMetrics& c : report.classes)
    classes.push_back({{"label", c.label},
                       {"precision", c.precision},
                       {"recall", c.recall},
                       {"f1", c.f1},
                       {"support", c.support}});
  return {{"count", report.count},
          {"set_aside", result.set_aside},
          {"accuracy", report.accuracy},
          {"macro_precision", report.macro_precision},
          {"macro_recall", report.macro_recall},
          {"macro_f1", report.macro_f1},
          {"format_rate", result.format_rate},
          {"mean_completion_length", result.mean_completion_length},
          {"classes", classes},
          {"confusion_labels", report.confusion_labels},
          {"confusion", report.confusion}};
}

}  // namespace ferro
