#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace ferro {

/// Weighted sum of rewards per answer; functions without a value count nothing; all without: no reward
/// (empty). values[function][answer].
std::vector<std::optional<double>> combine_rewards(
    const std::vector<std::vector<std::optional<double>>>& values, std::span<const double> weights);

struct AdvantageResult {
  std::vector<double> advantages;  ///< [answers], 0 where there is no reward.
  std::vector<double> group_std;   ///< [groups], n - 1 in the denominator; NaN with fewer than two rewards.
  std::vector<bool> has_signal;    ///< [groups] some advantage is not 0.
};

/// A = (r - mean of its group) / s with s = std of the group + 1e-4 ("group"), std of the whole batch + 1e-4
/// ("batch"), or 1 ("none"). Source: TRL's GRPOTrainer; golden: grpo/grpo_advantages.json. Double arithmetic;
/// rewards of a group that are equal to 1e-12 give exact zeros.
AdvantageResult group_advantages(std::span<const std::optional<double>> rewards, std::int64_t num_generations,
                                 const std::string& scale_rewards);

}  // namespace ferro
