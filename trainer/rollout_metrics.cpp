#include "trainer/rollout_metrics.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace ferro {
namespace {

struct Statistics {
  double mean = std::nan(""), std = std::nan("");
};

Statistics statistics_of(std::span<const std::optional<double>> values) {
  double sum = 0, count = 0, squares = 0;
  for (const auto& value : values) {
    if (!value) continue;
    sum += *value;
    count += 1;
  }
  Statistics s;
  if (count == 0) return s;
  s.mean = sum / count;
  for (const auto& value : values)
    if (value) squares += (*value - s.mean) * (*value - s.mean);
  if (count > 1) s.std = std::sqrt(squares / (count - 1));
  return s;
}

struct Lengths {
  double sum = 0, count = 0;
  std::int64_t least = 0, largest = 0;
  void add(std::int64_t length) {
    least = count == 0 ? length : std::min(least, length);
    largest = std::max(largest, length);
    sum += static_cast<double>(length);
    count += 1;
  }
  double mean() const { return count == 0 ? 0 : sum / count; }
};

}  // namespace

std::map<std::string, double> reward_metrics(const std::vector<std::string>& names,
                                             const std::vector<std::vector<std::optional<double>>>& values,
                                             std::span<const std::optional<double>> rewards,
                                             std::span<const double> group_std,
                                             const std::string& scale_rewards) {
  FERRO_CHECK(names.size() == values.size(), "{} names for {} functions", names.size(), values.size());
  std::map<std::string, double> metrics;
  for (std::size_t f = 0; f < names.size(); ++f) {
    const Statistics s = statistics_of(values[f]);
    metrics["rewards/" + names[f] + "/mean"] = s.mean;
    metrics["rewards/" + names[f] + "/std"] = s.std;
  }
  const Statistics all = statistics_of(rewards);
  metrics["reward"] = all.mean;
  metrics["reward_std"] = all.std;
  const auto is_zero = [](double std) { return std::abs(std) <= 1e-8; };
  if (scale_rewards == "batch") {
    metrics["frac_reward_zero_std"] = is_zero(all.std) ? 1 : 0;
  } else {
    const auto zero = static_cast<double>(std::count_if(group_std.begin(), group_std.end(), is_zero));
    metrics["frac_reward_zero_std"] = group_std.empty() ? 0 : zero / static_cast<double>(group_std.size());
  }
  return metrics;
}

bool ended_by_itself(std::span<const std::int32_t> token_ids, std::span<const std::int32_t> stop_ids) {
  return !token_ids.empty() &&
         std::find(stop_ids.begin(), stop_ids.end(), token_ids.back()) != stop_ids.end();
}

double answer_kl(std::span<const float> old_logps, std::span<const float> ref_logps) {
  FERRO_CHECK(old_logps.size() == ref_logps.size(), "{} log-probs, {} of the reference", old_logps.size(),
              ref_logps.size());
  double sum = 0;
  for (std::size_t t = 0; t < old_logps.size(); ++t)
    sum += static_cast<double>(old_logps[t]) - static_cast<double>(ref_logps[t]);
  return sum;
}

std::map<std::string, double> completion_metrics(std::span<const std::int64_t> lengths,
                                                 std::span<const std::uint8_t> terminated) {
  FERRO_CHECK(lengths.size() == terminated.size(), "{} lengths, {} marks", lengths.size(), terminated.size());
  Lengths all, ended;
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    all.add(lengths[i]);
    if (terminated[i] != 0) ended.add(lengths[i]);
  }
  return {{"completions/mean_length", all.mean()},
          {"completions/min_length", static_cast<double>(all.least)},
          {"completions/max_length", static_cast<double>(all.largest)},
          {"completions/mean_terminated_length", ended.mean()},
          {"completions/min_terminated_length", static_cast<double>(ended.least)},
          {"completions/max_terminated_length", static_cast<double>(ended.largest)},
          {"completions/clipped_ratio", all.count == 0 ? 0 : 1 - ended.count / all.count}};
}

}  // namespace ferro
