#pragma once

#include <cstdint>
#include <span>

namespace ferro {

/// How much more often B is right than A on the same rows.
struct PairedInterval {
  std::int64_t count = 0;               ///< Rows compared.
  std::int64_t only_a = 0, only_b = 0;  ///< Rows that only A, or only B, has right.
  double accuracy_a = 0, accuracy_b = 0;
  double difference = 0;     ///< accuracy_b - accuracy_a.
  double low = 0, high = 0;  ///< 95 % percentile bootstrap interval of the difference over rows.
  double normal_low = 0, normal_high = 0;  ///< The same from the normal approximation.
};

/// `right_a[i]` and `right_b[i]` (0 or 1) judge the same row. The bootstrap resamples rows `replicates`
/// times; its draws are keyed by `seed`, so the same input gives the same interval. Error{kInternal} when the
/// spans differ in size; all zeros for no rows.
PairedInterval paired_interval(std::span<const std::uint8_t> right_a, std::span<const std::uint8_t> right_b,
                               std::uint64_t seed = 0, std::int64_t replicates = 2000);

}  // namespace ferro
