#include "trainer/advantages.h"

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

}  // namespace

std::vector<std::optional<double>> combine_rewards(
    const std::vector<std::vector<std::optional<double>>>& values, std::span<const double> weights) {
  FERRO_CHECK(!values.empty() && (weights.empty() || weights.size() == values.size()),
              "{} functions, {} weights", values.size(), weights.size());
  std::vector<std::optional<double>> rewards(values[0].size());
  for (std::size_t f = 0; f < values.size(); ++f) {
    FERRO_CHECK(values[f].size() == rewards.size(), "function {} has {} values, the first {}", f,
                values[f].size(), rewards.size());
    const double weight = weights.empty() ? 1.0 : weights[f];
    for (std::size_t i = 0; i < rewards.size(); ++i)
      if (values[f][i]) rewards[i] = rewards[i].value_or(0.0) + weight * *values[f][i];
  }
  return rewards;
}

AdvantageResult group_advantages(std::span<const std::optional<double>> rewards, std::int64_t num_generations,
                                 const std::string& scale_rewards) {
  FERRO_CHECK(num_generations > 0 && rewards.size() % static_cast<std::size_t>(num_generations) == 0,
              "{} rewards in groups of {}", rewards.size(), num_generations);
  const bool by_group = scale_rewards == "group", by_batch = scale_rewards == "batch";
  if (!by_group && !by_batch && scale_rewards != "none")
    fail(ErrorCode::kConfig, "scale_rewards is `{}`; it can be group, batch or none", scale_rewards);

  const auto size = static_cast<std::size_t>(num_generations);
  const double batch_std = moments_of(rewards).std;
  AdvantageResult result;
  result.advantages.resize(rewards.size(), 0.0);
  for (std::size_t begin = 0; begin < rewards.size(); begin += size) {
    const auto group = rewards.subspan(begin, size);
    const Moments m = moments_of(group);
    const double divisor = by_group ? m.std + kStdOffset : by_batch ? batch_std + kStdOffset : 1.0;
    bool signal = false;
    for (std::size_t i = 0; i < size && m.spread > kEqualRewards; ++i) {
      if (!group[i]) continue;
      const double advantage = (*group[i] - m.mean) / divisor;
      if (std::isnan(advantage)) continue;
      result.advantages[begin + i] = advantage;
      signal = signal || advantage != 0.0;
    }
    result.group_std.push_back(m.std);
    result.has_signal.push_back(signal);
  }
  return result;
}

}  // namespace ferro
