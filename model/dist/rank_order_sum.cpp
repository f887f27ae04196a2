#include "model/dist/rank_order_sum.h"

#include <algorithm>
#include <cstddef>

namespace ferro {

at::Tensor sum_in_rank_order(const std::vector<at::Tensor>& parts) {
  const at::ScalarType dtype = parts.front().scalar_type();
  const bool narrow = dtype == at::kBFloat16 || dtype == at::kHalf;
  at::Tensor sum = parts.front().to(narrow ? at::kFloat : dtype, /*non_blocking=*/false, /*copy=*/true);
  for (std::size_t r = 1; r < parts.size(); ++r) sum.add_(parts[r]);
  return sum.to(dtype);
}

std::vector<std::int64_t> equal_bounds(std::int64_t elements, int ranks) {
  std::vector<std::int64_t> bounds;
  for (int r = 0; r <= ranks; ++r) bounds.push_back(elements * r / ranks);
  return bounds;
}

void check_bounds(std::string_view operation, std::span<const std::int64_t> bounds, std::int64_t elements,
                  int ranks) {
  FERRO_CHECK(bounds.size() == static_cast<std::size_t>(ranks) + 1 && bounds.front() == 0 &&
                  bounds.back() == elements && std::is_sorted(bounds.begin(), bounds.end()),
              "{}: {} bounds do not cut {} elements for {} ranks", operation, bounds.size(), elements, ranks);
}

std::int64_t digest_of(std::span<const std::int64_t> bounds) {
  std::uint64_t digest = 1469598103934665603ULL;
  for (const std::int64_t bound : bounds)
    digest = (digest ^ static_cast<std::uint64_t>(bound)) * 1099511628211ULL;
  return static_cast<std::int64_t>(digest);
}

}  // namespace ferro
