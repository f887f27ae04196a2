#include "trainer/advantages.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace ferro {
namespace {

constexpr double kStdOffset = 1e-4;      // TRL adds it to the divisor.
constexpr double kEqualRewards = 1e-12;  // Spread below which the rewards of a group count as one value.

struct Moments {
  std::int64_t count = 0;
  double mean = 0, std = std::nan("");
  double spread = 0;  // Largest minus smallest.
};

Moments moments_of(std::span<const std::optional<double>> rewards) {
  Moments m;
  double sum = 0, low = 0, high = 0;
  for (const auto& reward : rewards) {
    if (!reward) continue;
    low = m.count == 0 ? *reward : std::min(low, *reward);
    high = m.count == 0 ? *reward : std::max(high, *reward);
    sum += *reward;
    ++m.count;
  }
  if (m.count == 0) return m;
  m.mean = sum / static_cast<double>(m.count);
  m.spread = high - low;
  if (m.count < 2) return m;
  double squares = 0;
  for (const auto& reward : rewards)
    if (reward) squares += (*reward - m.mean) * (*reward - m.mean);
  m.std = m.spread <= kEqualRewards ? 0.0 : std::sqrt(squares / static_cast<double>(m.count - 1));
  return m;
}

// What the values of a group are divided by after centring.
enum class Divisor { kGroupStd, kBatchStd, kOne, kLeaveOneOut };

// (x - mean of its group) / divisor; no value where that is not a number.
OptionalRewards centred(const OptionalRewards& values, std::size_t group_size, Divisor divisor) {
  const double batch_std = moments_of(values).std;
  OptionalRewards out(values.size());
  for (std::size_t begin = 0; begin < values.size(); begin += group_size) {
    const Moments m = moments_of(std::span(values).subspan(begin, group_size));
    const auto count = static_cast<double>(m.count);
    double by = 1;
    if (divisor == Divisor::kGroupStd) by = m.std + kStdOffset;
    if (divisor == Divisor::kBatchStd) by = batch_std + kStdOffset;
    // x - mean of the others = (x - mean) n / (n - 1)
    if (divisor == Divisor::kLeaveOneOut) by = m.count < 2 ? std::nan("") : (count - 1) / count;
    for (std::size_t i = begin; i < begin + group_size; ++i) {
      if (!values[i] || std::isnan(by)) continue;
      out[i] = m.spread <= kEqualRewards ? 0.0 : (*values[i] - m.mean) / by;
    }
  }
  return out;
}

// (x - mean) / (std + 1e-4) over the batch. Values that were centred in their groups have the mean 0,
// whatever rounding says: what was exactly 0 stays so.
OptionalRewards whitened(const OptionalRewards& values, bool are_centred) {
  Moments m = moments_of(values);
  if (are_centred) m.mean = 0;
  OptionalRewards out(values.size());
  if (std::isnan(m.std)) return out;
  for (std::size_t i = 0; i < values.size(); ++i)
    if (values[i]) out[i] = m.spread <= kEqualRewards ? 0.0 : (*values[i] - m.mean) / (m.std + kStdOffset);
  return out;
}

Divisor divisor_of(const std::string& scale_rewards) {
  if (scale_rewards == "group") return Divisor::kGroupStd;
  if (scale_rewards == "batch") return Divisor::kBatchStd;
  if (scale_rewards == "none") return Divisor::kOne;
  fail(ErrorCode::kConfig, "scale_rewards is `{}`; it can be group, batch or none", scale_rewards);
}

// Each function's values are normalised in their groups, then weighted, summed, and normalised over the
// batch. A value alone in its group adds nothing.
OptionalRewards normalised_then_summed(const std::vector<OptionalRewards>& values,
                                       std::span<const double> weights, std::size_t group_size) {
  std::vector<OptionalRewards> normalised;
  for (const OptionalRewards& function : values) {
    normalised.push_back(centred(function, group_size, Divisor::kGroupStd));
    for (std::size_t i = 0; i < function.size(); ++i)
      if (function[i] && !normalised.back()[i]) normalised.back()[i] = 0.0;
  }
  return whitened(combine_rewards(normalised, weights), false);
}

OptionalRewards advantages_of(const AdvantageSettings& settings, const std::vector<OptionalRewards>& values,
                              const OptionalRewards& rewards, std::size_t group_size) {
  const std::string& estimator = settings.advantage_estimator;
  if (estimator == "grpo") {
    const std::string& order = settings.multi_objective_aggregation;
    if (order == "sum_then_normalize")
      return centred(rewards, group_size, divisor_of(settings.scale_rewards));
    if (order == "normalize_then_sum")
      return normalised_then_summed(values, settings.reward_weights, group_size);
    fail(ErrorCode::kConfig,
         "multi_objective_aggregation is `{}`; it can be sum_then_normalize or normalize_then_sum", order);
  }
  if (estimator == "rloo") {
    OptionalRewards advantages = centred(rewards, group_size, Divisor::kLeaveOneOut);
    return settings.normalize_advantages ? whitened(advantages, true) : advantages;
  }
  if (estimator == "reinforce_plus_plus") return whitened(rewards, false);
  if (estimator == "reinforce_plus_plus_baseline")
    return whitened(centred(rewards, group_size, Divisor::kOne), true);
  fail(ErrorCode::kConfig,
       "advantage_estimator is `{}`; it can be grpo, rloo, reinforce_plus_plus or "
       "reinforce_plus_plus_baseline",
       estimator);
}

}  // namespace

OptionalRewards combine_rewards(const std::vector<OptionalRewards>& values, std::span<const double> weights) {
  FERRO_CHECK(!values.empty() && (weights.empty() || weights.size() == values.size()),
              "{} functions, {} weights", values.size(), weights.size());
  OptionalRewards rewards(values[0].size());
  for (std::size_t f = 0; f < values.size(); ++f) {
    FERRO_CHECK(values[f].size() == rewards.size(), "function {} has {} values, the first {}", f,
                values[f].size(), rewards.size());
    const double weight = weights.empty() ? 1.0 : weights[f];
    for (std::size_t i = 0; i < rewards.size(); ++i)
      if (values[f][i]) rewards[i] = rewards[i].value_or(0.0) + weight * *values[f][i];
  }
  return rewards;
}

AdvantageResult compute_advantages(const AdvantageSettings& settings,
                                   const std::vector<OptionalRewards>& values,
                                   std::span<const double> penalties, std::int64_t num_generations) {
  AdvantageResult result;
  result.rewards = combine_rewards(values, settings.reward_weights);
  const std::size_t answers = result.rewards.size();
  FERRO_CHECK(num_generations > 0 && answers % static_cast<std::size_t>(num_generations) == 0,
              "{} rewards in groups of {}", answers, num_generations);
  FERRO_CHECK((penalties.empty() || penalties.size() == answers) &&
                  (settings.reward_clip_range.empty() || settings.reward_clip_range.size() == 2),
              "{} penalties for {} answers, {} limits", penalties.size(), answers,
              settings.reward_clip_range.size());
  OptionalRewards rewards = result.rewards;
  for (std::size_t i = 0; i < answers; ++i) {
    if (!rewards[i]) continue;
    if (!settings.reward_clip_range.empty())
      rewards[i] = std::clamp(*rewards[i], settings.reward_clip_range[0], settings.reward_clip_range[1]);
    if (!penalties.empty()) *rewards[i] -= penalties[i];
  }
  const auto size = static_cast<std::size_t>(num_generations);
  const OptionalRewards advantages = advantages_of(settings, values, rewards, size);
  for (std::size_t begin = 0; begin < answers; begin += size) {
    const Moments m = moments_of(std::span(result.rewards).subspan(begin, size));
    result.group_std.push_back(m.std);
    result.rewards_differ.push_back(m.spread > kEqualRewards);
    bool signal = false;
    for (std::size_t i = begin; i < begin + size; ++i) {
      result.advantages.push_back(advantages[i].value_or(0.0));
      signal = signal || result.advantages.back() != 0.0;
    }
    result.has_signal.push_back(signal);
  }
  return result;
}

}  // namespace ferro
