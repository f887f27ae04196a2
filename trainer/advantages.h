#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace ferro {

/// How rewards become advantages: one table of parameters (docs/losses.md), TRL's names.
struct AdvantageSettings {
  std::string advantage_estimator =
      "grpo";                           ///< grpo, rloo, reinforce_plus_plus, reinforce_plus_plus_baseline.
  std::string scale_rewards = "group";  ///< grpo: group, batch, none.
  std::string multi_objective_aggregation = "sum_then_normalize";  ///< grpo: or normalize_then_sum (GDPO).
  std::vector<double> reward_weights;                              ///< One per function; empty: all 1.
  std::vector<double> reward_clip_range;                           ///< {least, largest}; empty: as they are.
  bool normalize_advantages = false;  ///< rloo: to mean 0 and std 1 over the batch.
};

/// One reward per answer or none: values[answer].
using OptionalRewards = std::vector<std::optional<double>>;

/// Weighted sum of rewards per answer; functions without a value count nothing; all without: no reward
/// (empty). values[function][answer].
OptionalRewards combine_rewards(const std::vector<OptionalRewards>& values, std::span<const double> weights);

struct AdvantageResult {
  OptionalRewards rewards;         ///< [answers] the weighted sums, before clipping and penalties.
  std::vector<double> advantages;  ///< [answers], 0 where there is no reward.
  std::vector<double>
      group_std;  ///< [groups] of `rewards`, n - 1 in the denominator; NaN with fewer than two.
  std::vector<bool> has_signal;      ///< [groups] some advantage is not 0.
  std::vector<bool> rewards_differ;  ///< [groups] by more than 1e-12.
};

/// Advantages of whole groups of `num_generations` answers, one after the other. values[function][answer];
/// `penalties` [answers] are taken off the (clipped) rewards, empty: none. Double arithmetic; rewards of a
/// group that agree to 1e-12 give exact zeros where they are centred in the group. Golden:
/// grpo/grpo_advantages.json. Error{kConfig}: an unknown name.
AdvantageResult compute_advantages(const AdvantageSettings& settings,
                                   const std::vector<OptionalRewards>& values,
                                   std::span<const double> penalties, std::int64_t num_generations);

}  // namespace ferro
