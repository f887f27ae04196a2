#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace ferro {

/// "reward", "reward_std" (over the whole batch, n - 1), "rewards/<f>/mean", "rewards/<f>/std",
/// "frac_reward_zero_std" with TRL's meanings: answers without a value leave the denominators.
/// values[function][answer]; `rewards` and `group_std` as of compute_advantages. Golden:
/// grpo/grpo_advantages.json.
std::map<std::string, double> reward_metrics(const std::vector<std::string>& names,
                                             const std::vector<std::vector<std::optional<double>>>& values,
                                             std::span<const std::optional<double>> rewards,
                                             std::span<const double> group_std,
                                             const std::string& scale_rewards);

/// Whether an answer ended by itself: its last id is one of `stop_ids`.
bool ended_by_itself(std::span<const std::int32_t> token_ids, std::span<const std::int32_t> stop_ids);

/// Sum over an answer's tokens of (old - ref), k1 of the divergence: what kl_in_reward takes off a reward
/// (RLOO), before its weight.
double answer_kl(std::span<const float> old_logps, std::span<const float> ref_logps);

/// "completions/mean_length", min, max, the same of terminated answers ("..._terminated_length"; 0 without
/// any), and "completions/clipped_ratio", the share of answers that did not stop by themselves.
std::map<std::string, double> completion_metrics(std::span<const std::int64_t> lengths,
                                                 std::span<const std::uint8_t> terminated);

}  // namespace ferro
