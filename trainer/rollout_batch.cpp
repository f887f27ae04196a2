#include "trainer/rollout_batch.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <fmt/format.h>

#include "core/error.h"
#include "trainer/metric_sums.h"
#include "trainer/policy_setup.h"
#include "trainer/rank_world.h"
#include "trainer/rollout_exchange.h"
#include "trainer/rollout_metrics.h"

namespace ferro {

double overlong_penalty(std::int64_t length, std::int64_t longest, std::int64_t buffer) {
  if (buffer <= 0) return 0;
  const double over = static_cast<double>(length - (longest - buffer)) / static_cast<double>(buffer);
  return -std::clamp(over, 0.0, 1.0);
}

RolloutCollector::RolloutCollector(RolloutSource& source, Scorer& scorer, const std::vector<Row>& rows,
                                   std::string file, RolloutSettings settings, const Clock& clock,
                                   Communicator* ranks)
    : source_(source),
      scorer_(scorer),
      rows_(rows),
      file_(std::move(file)),
      settings_(std::move(settings)),
      clock_(clock),
      ranks_(ranks) {
  if (settings_.overlong_buffer == 0) return;
  std::vector<double>& weights = settings_.advantages.reward_weights;
  if (weights.empty()) weights.assign(scorer_.function_names().size(), 1.0);
  weights.push_back(settings_.overlong_penalty_factor);
}

std::vector<std::string> RolloutCollector::names() const {
  std::vector<std::string> all = scorer_.function_names();
  if (settings_.overlong_buffer > 0) all.emplace_back(kOverlongName);
  return all;
}

RolloutBatch RolloutCollector::collect(const SampleBatch& batch) {
  RolloutBatch out;
  add(batch, out);
  finish(out, {});
  return out;
}

void RolloutCollector::add(const SampleBatch& batch, RolloutBatch& out) {
  const RankPart part =
      ranks_ == nullptr ? RankPart{0, batch.samples.size()} : part_of_rank(batch.samples.size(), *ranks_);
  const Stopwatch rollout_watch(clock_);
  std::vector<RolloutGroup> groups = sample(batch, part.begin, part.end);
  out.rollout_seconds += rollout_watch.seconds();

  const Stopwatch score_watch(clock_);
  std::vector<JudgedAnswers> answers;
  for (std::size_t i = 0; i < groups.size(); ++i) {
    GroupVerdicts verdicts =
        score(groups[i], rows_[static_cast<std::size_t>(batch.samples[part.begin + i].row)]);
    answers.push_back({std::move(groups[i].completions), std::move(verdicts)});
  }
  if (ranks_ != nullptr) answers = share_answers(std::move(answers), *ranks_);
  FERRO_CHECK(answers.size() == batch.samples.size(), "{} of {} groups came from the ranks", answers.size(),
              batch.samples.size());
  for (const std::string& name : scorer_.function_names()) out.metrics["rewards/" + name + "/unjudged"] += 0;
  for (std::size_t i = 0; i < answers.size(); ++i) {
    JudgedGroup group;
    group.row = batch.samples[i].row;
    group.rollout = {request_of(batch, i), std::move(answers[i].completions)};
    for (const Completion& completion : group.rollout.completions) {
      const auto tokens = static_cast<std::int64_t>(completion.token_ids.size());
      out.completion_tokens += tokens;
      out.prompt_and_completion_tokens +=
          tokens + static_cast<std::int64_t>(group.rollout.request.prompt->ids.size());
    }
    if (judge(group, answers[i].verdicts, out)) out.groups.push_back(std::move(group));
  }
  out.score_seconds += score_watch.seconds();
}

void RolloutCollector::finish(RolloutBatch& out, std::span<const double> penalties) const {
  if (out.groups.empty()) return;
  add_advantages(out, penalties);
  add_completion_metrics(out);
  add_label_metrics(out);
}

RolloutRequest RolloutCollector::request_of(const SampleBatch& batch, std::size_t sample) const {
  const Sample& from = batch.samples[sample];
  return {.sample_id = rows_[static_cast<std::size_t>(from.row)].id,
          .epoch = batch.epoch,
          .num_generations = static_cast<std::int32_t>(settings_.num_generations),
          .prompt = from.prompt,
          .sampling = settings_.sampling};
}

// Those of the batch from `begin` to `end`.
std::vector<RolloutGroup> RolloutCollector::sample(const SampleBatch& batch, std::size_t begin,
                                                   std::size_t end) {
  std::map<std::int64_t, std::size_t> place;
  for (std::size_t i = begin; i < end; ++i) {
    RolloutRequest request = request_of(batch, i);
    place[request.sample_id] = i - begin;
    source_.submit(std::move(request));
  }
  std::vector<RolloutGroup> groups(end - begin);
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

GroupVerdicts RolloutCollector::score(const RolloutGroup& group, const Row& row) {
  ScoreRequest request{
      row.question, row.solution, {}, fmt::format("sample {} of epoch {}", row.id, group.request.epoch)};
  for (const Completion& completion : group.completions) request.completions.push_back(completion.text);
  return scorer_.score(request);
}

bool RolloutCollector::judge(JudgedGroup& group, const GroupVerdicts& verdicts, RolloutBatch& out) const {
  const Row& row = rows_[static_cast<std::size_t>(group.row)];
  const std::vector<std::string>& functions = scorer_.function_names();
  FERRO_CHECK(verdicts.verdicts.size() == functions.size(), "{} verdict lists for {} functions",
              verdicts.verdicts.size(), functions.size());
  std::string unjudged;
  for (std::size_t f = 0; f < functions.size(); ++f) {
    OptionalRewards& values = group.values.emplace_back();
    for (const Verdict& verdict : verdicts.verdicts[f]) {
      const bool finite = !verdict.value || std::isfinite(*verdict.value);
      values.push_back(finite ? verdict.value : std::nullopt);
      if (values.back()) continue;
      out.metrics["rewards/" + functions[f] + "/unjudged"] += 1;
      if (!finite) out.metrics["rewards/" + functions[f] + "/not_finite"] += 1;
      unjudged = functions[f] + ": " + (finite ? verdict.reason : "not_finite");
    }
  }
  if (settings_.overlong_buffer > 0) {
    OptionalRewards& values = group.values.emplace_back();
    for (const Completion& completion : group.rollout.completions)
      values.push_back(overlong_penalty(static_cast<std::int64_t>(completion.token_ids.size()),
                                        settings_.sampling.max_completion_length, settings_.overlong_buffer));
  }
  if (unjudged.empty() || settings_.keep_unjudged) return true;
  out.set_aside.push_back({file_, row.id, "unjudged", unjudged});
  return false;
}

void RolloutCollector::drop_without_signal(RolloutBatch& out) const {
  for (const char* name : {"dynamic_sampling/dropped_low", "dynamic_sampling/dropped_high"})
    out.metrics[name] += 0;
  std::vector<JudgedGroup> kept;
  for (JudgedGroup& group : out.groups) {
    const AdvantageResult result =
        compute_advantages(settings_.advantages, group.values, {}, settings_.num_generations);
    if (result.rewards_differ[0]) {
      kept.push_back(std::move(group));
      continue;
    }
    double reward = 0;
    for (const auto& value : result.rewards) reward = value.value_or(reward);
    out.metrics[reward > 0 ? "dynamic_sampling/dropped_high" : "dynamic_sampling/dropped_low"] += 1;
    out.set_aside.push_back({file_, rows_[static_cast<std::size_t>(group.row)].id, "no_signal",
                             "all answers of epoch " + std::to_string(group.rollout.request.epoch) +
                                 " have the reward " + std::to_string(reward)});
  }
  out.groups = std::move(kept);
}

void RolloutCollector::add_advantages(RolloutBatch& out, std::span<const double> penalties) const {
  const std::vector<std::string> functions = names();
  std::vector<OptionalRewards> values(functions.size());
  for (const JudgedGroup& group : out.groups)
    for (std::size_t f = 0; f < functions.size(); ++f)
      values[f].insert(values[f].end(), group.values[f].begin(), group.values[f].end());
  const AdvantageResult result =
      compute_advantages(settings_.advantages, values, penalties, settings_.num_generations);
  const auto size = static_cast<std::size_t>(settings_.num_generations);
  double without_signal = 0, single = 0;
  for (std::size_t g = 0; g < out.groups.size(); ++g) {
    JudgedGroup& group = out.groups[g];
    group.has_signal = result.has_signal[g];
    group.rewards.assign(result.rewards.begin() + static_cast<std::ptrdiff_t>(g * size),
                         result.rewards.begin() + static_cast<std::ptrdiff_t>((g + 1) * size));
    group.advantages.assign(result.advantages.begin() + static_cast<std::ptrdiff_t>(g * size),
                            result.advantages.begin() + static_cast<std::ptrdiff_t>((g + 1) * size));
    without_signal += group.has_signal ? 0 : 1;
    single += std::isnan(result.group_std[g]) ? 1 : 0;
  }
  out.metrics["groups/without_signal"] = without_signal;
  out.metrics["groups/fewer_than_two_rewards"] = single;
  out.metrics.merge(reward_metrics(functions, values, result.rewards, result.group_std,
                                   settings_.advantages.scale_rewards));
}

void RolloutCollector::add_completion_metrics(RolloutBatch& out) const {
  std::vector<std::int64_t> lengths;
  std::vector<std::uint8_t> terminated;
  double empty = 0;
  for (const JudgedGroup& group : out.groups) {
    for (const Completion& completion : group.rollout.completions) {
      lengths.push_back(static_cast<std::int64_t>(completion.token_ids.size()));
      terminated.push_back(completion.finish == FinishReason::kStop ? 1 : 0);
      empty += completion.token_ids.empty() ? 1 : 0;
    }
  }
  out.metrics["completions/empty"] = empty;
  out.metrics.merge(completion_metrics(lengths, terminated));
}

void RolloutCollector::add_label_metrics(RolloutBatch& out) const {
  const std::vector<std::string>& functions = scorer_.function_names();
  const auto accuracy =
      static_cast<std::size_t>(std::find(functions.begin(), functions.end(), "accuracy") - functions.begin());
  MetricSums sums;
  for (const JudgedGroup& group : out.groups) {
    const std::string label = label_of(rows_[static_cast<std::size_t>(group.row)]);
    for (std::size_t i = 0; i < group.rewards.size(); ++i) {
      add_to_mean(sums, "length/by_label/" + label,
                  static_cast<double>(group.rollout.completions[i].token_ids.size()));
      if (group.rewards[i]) add_to_mean(sums, "reward/by_label/" + label, *group.rewards[i]);
      if (accuracy < functions.size() && group.values[accuracy][i])
        add_to_mean(sums, "accuracy/" + label, *group.values[accuracy][i]);
    }
  }
  out.metrics.merge(metrics_of(sums));
}

}  // namespace ferro
