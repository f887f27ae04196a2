#include "reward/paired_interval.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "core/error.h"
#include "core/keyed_random.h"

namespace ferro {
namespace {

/// Sorted bootstrap replicates of the mean of `differences`.
std::vector<double> bootstrap_means(std::span<const int> differences, std::uint64_t seed,
                                    std::int64_t replicates) {
  const std::uint64_t count = differences.size();
  std::vector<double> means(static_cast<std::size_t>(replicates));
  for (std::size_t r = 0; r < means.size(); ++r) {
    KeyedRandom random(seed, RandomPurpose::kBootstrap, {r});
    std::int64_t sum = 0;
    for (std::uint64_t i = 0; i < count; ++i) sum += differences[random.below(count)];
    means[r] = static_cast<double>(sum) / static_cast<double>(count);
  }
  std::sort(means.begin(), means.end());
  return means;
}

/// Linear between order statistics.
double percentile(std::span<const double> sorted, double share) {
  const double place = share * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (place - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

}  // namespace

PairedInterval paired_interval(std::span<const std::uint8_t> right_a, std::span<const std::uint8_t> right_b,
                               std::uint64_t seed, std::int64_t replicates) {
  FERRO_CHECK(right_a.size() == right_b.size(), "{} rows of A, {} of B", right_a.size(), right_b.size());
  FERRO_CHECK(replicates > 0, "{} replicates", replicates);
  PairedInterval result;
  result.count = static_cast<std::int64_t>(right_a.size());
  if (right_a.empty()) return result;

  std::vector<int> differences(right_a.size());
  std::int64_t right_in_a = 0, right_in_b = 0;
  for (std::size_t i = 0; i < differences.size(); ++i) {
    const bool a = right_a[i] != 0, b = right_b[i] != 0;
    differences[i] = static_cast<int>(b) - static_cast<int>(a);
    right_in_a += a;
    right_in_b += b;
    result.only_a += a && !b;
    result.only_b += b && !a;
  }
  const auto n = static_cast<double>(result.count);
  result.accuracy_a = static_cast<double>(right_in_a) / n;
  result.accuracy_b = static_cast<double>(right_in_b) / n;
  result.difference = static_cast<double>(right_in_b - right_in_a) / n;

  const double mean_square = static_cast<double>(result.only_a + result.only_b) / n;
  const double standard_error =
      std::sqrt(std::max(0.0, mean_square - result.difference * result.difference) / n);
  constexpr double kTwoSided95 = 1.959963984540054;  // 0.975 quantile of the standard normal.
  result.normal_low = result.difference - kTwoSided95 * standard_error;
  result.normal_high = result.difference + kTwoSided95 * standard_error;

  const std::vector<double> means = bootstrap_means(differences, seed, replicates);
  result.low = percentile(means, 0.025);
  result.high = percentile(means, 0.975);
  return result;
}

}  // namespace ferro
