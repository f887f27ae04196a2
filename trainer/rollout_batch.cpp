#include "trainer/rollout_batch.h"

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "trainer/advantages.h"
#include "trainer/metric_sums.h"
#include "trainer/policy_setup.h"
#include "trainer/rollout_metrics.h"

namespace ferro {

RolloutCollector::RolloutCollector(RolloutSource& source, Scorer& scorer, const std::vector<Row>& rows,
                                   std::string file, RolloutSettings settings, const Clock& clock)
    : source_(source),
      scorer_(scorer),
      rows_(rows),
      file_(std::move(file)),
      settings_(std::move(settings)),
      clock_(clock) {}

RolloutBatch RolloutCollector::collect(const SampleBatch& batch) {
  RolloutBatch out;
  const Stopwatch rollout_watch(clock_);
  std::vector<RolloutGroup> groups = sample(batch);
  out.rollout_seconds = rollout_watch.seconds();

  const Stopwatch score_watch(clock_);
  for (const std::string& name : scorer_.function_names()) out.metrics["rewards/" + name + "/unjudged"] = 0;
  for (std::size_t i = 0; i < groups.size(); ++i) {
    for (const Completion& completion : groups[i].completions) {
      const auto tokens = static_cast<std::int64_t>(completion.token_ids.size());
      out.completion_tokens += tokens;
      out.prompt_and_completion_tokens +=
          tokens + static_cast<std::int64_t>(groups[i].request.prompt->ids.size());
    }
    JudgedGroup group{batch.samples[i].row, std::move(groups[i]), {}, {}, {}, false};
    if (judge(group, out)) out.groups.push_back(std::move(group));
  }
  out.score_seconds = score_watch.seconds();
  if (out.groups.empty()) return out;
  add_advantages(out);
  add_completion_metrics(out);
  add_label_accuracy(out);
  return out;
}

std::vector<RolloutGroup> RolloutCollector::sample(const SampleBatch& batch) {
  std::map<std::int64_t, std::size_t> place;
  for (std::size_t i = 0; i < batch.samples.size(); ++i) {
    const Sample& sample = batch.samples[i];
    const std::int64_t id = rows_[static_cast<std::size_t>(sample.row)].id;
    place[id] = i;
    source_.submit({.sample_id = id,
                    .epoch = batch.epoch,
                    .num_generations = static_cast<std::int32_t>(settings_.num_generations),
                    .prompt = sample.prompt,
                    .sampling = settings_.sampling});
  }
  std::vector<RolloutGroup> groups(batch.samples.size());
  std::size_t received = 0;
  while (std::optional<RolloutGroup> group = source_.receive()) {
    const auto at = place.find(group->request.sample_id);
    FERRO_CHECK(at != place.end() &&
                    static_cast<std::int64_t>(group->completions.size()) == settings_.num_generations,
                "sample {} came with {} answers", group->request.sample_id, group->completions.size());
    groups[at->second] = std::move(*group);
    ++received;
  }
  FERRO_CHECK(received == groups.size(), "{} of {} groups came back", received, groups.size());
  return groups;
}

bool RolloutCollector::judge(JudgedGroup& group, RolloutBatch& out) {
  const Row& row = rows_[static_cast<std::size_t>(group.row)];
  ScoreRequest request{row.question, row.solution, {}};
  for (const Completion& completion : group.rollout.completions)
    request.completions.push_back(completion.text);
  const GroupVerdicts verdicts = scorer_.score(request);
  const std::vector<std::string>& names = scorer_.function_names();
  FERRO_CHECK(verdicts.verdicts.size() == names.size(), "{} verdict lists for {} functions",
              verdicts.verdicts.size(), names.size());
  std::string unjudged;
  for (std::size_t f = 0; f < names.size(); ++f) {
    std::vector<std::optional<double>>& values = group.values.emplace_back();
    for (const Verdict& verdict : verdicts.verdicts[f]) {
      values.push_back(verdict.value);
      if (verdict.value) continue;
      out.metrics["rewards/" + names[f] + "/unjudged"] += 1;
      unjudged = names[f] + ": " + verdict.reason;
    }
  }
  if (!unjudged.empty()) out.set_aside.push_back({file_, row.id, "unjudged", unjudged});
  return unjudged.empty();
}

void RolloutCollector::add_advantages(RolloutBatch& out) const {
  const std::vector<std::string>& names = scorer_.function_names();
  std::vector<std::vector<std::optional<double>>> values(names.size());
  for (const JudgedGroup& group : out.groups)
    for (std::size_t f = 0; f < names.size(); ++f)
      values[f].insert(values[f].end(), group.values[f].begin(), group.values[f].end());
  const std::vector<std::optional<double>> rewards = combine_rewards(values, settings_.reward_weights);
  const AdvantageResult result =
      group_advantages(rewards, settings_.num_generations, settings_.scale_rewards);
  const auto size = static_cast<std::size_t>(settings_.num_generations);
  for (std::size_t g = 0; g < out.groups.size(); ++g) {
    out.groups[g].has_signal = result.has_signal[g];
    for (std::size_t i = g * size; i < (g + 1) * size; ++i) {
      out.groups[g].rewards.push_back(rewards[i].value_or(0.0));
      out.groups[g].advantages.push_back(result.advantages[i]);
    }
  }
  out.metrics.merge(reward_metrics(names, values, rewards, result.group_std, settings_.scale_rewards));
}

void RolloutCollector::add_completion_metrics(RolloutBatch& out) const {
  std::vector<std::int64_t> lengths;
  std::vector<std::uint8_t> terminated;
  for (const JudgedGroup& group : out.groups) {
    for (const Completion& completion : group.rollout.completions) {
      lengths.push_back(static_cast<std::int64_t>(completion.token_ids.size()));
      terminated.push_back(completion.finish == FinishReason::kStop ? 1 : 0);
    }
  }
  out.metrics.merge(completion_metrics(lengths, terminated));
}

void RolloutCollector::add_label_accuracy(RolloutBatch& out) const {
  const std::vector<std::string>& names = scorer_.function_names();
  const auto at = std::find(names.begin(), names.end(), "accuracy");
  if (at == names.end()) return;
  const auto f = static_cast<std::size_t>(at - names.begin());
  MetricSums sums;
  for (const JudgedGroup& group : out.groups)
    for (const auto& value : group.values[f])
      add_to_mean(sums, "accuracy/" + label_of(rows_[static_cast<std::size_t>(group.row)]),
                  value.value_or(0.0));
  out.metrics.merge(metrics_of(sums));
}

}  // namespace ferro
