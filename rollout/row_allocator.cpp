#include "rollout/row_allocator.h"

#include <iterator>

#include "core/error.h"

namespace ferro {

RowAllocator::RowAllocator(std::int32_t capacity) : capacity_(capacity), free_rows_(capacity) {
  FERRO_CHECK(capacity > 0, "capacity {}", capacity);
  gaps_.emplace(0, capacity);
}

std::optional<RowRegion> RowAllocator::allocate(std::int32_t rows) {
  FERRO_CHECK(rows >= 0, "{} rows", rows);
  if (rows == 0) return RowRegion{};
  for (auto gap = gaps_.begin(); gap != gaps_.end(); ++gap) {
    const auto [begin, length] = *gap;
    if (length < rows) continue;
    gaps_.erase(gap);
    if (length > rows) gaps_.emplace(begin + rows, length - rows);
    free_rows_ -= rows;
    return RowRegion{begin, rows};
  }
  return std::nullopt;
}

void RowAllocator::release(RowRegion region) {
  if (region.rows == 0) return;
  auto next = gaps_.lower_bound(region.begin);
  FERRO_CHECK(
      region.begin >= 0 && region.end() <= capacity_ && (next == gaps_.end() || next->first >= region.end()),
      "rows [{}, {}) of {} are not allocated", region.begin, region.end(), capacity_);
  free_rows_ += region.rows;
  if (next != gaps_.end() && next->first == region.end()) {
    region.rows += next->second;
    next = gaps_.erase(next);
  }
  if (next != gaps_.begin()) {
    const auto previous = std::prev(next);
    const std::int32_t previous_end = previous->first + previous->second;
    FERRO_CHECK(previous_end <= region.begin, "rows [{}, {}) are given back twice", region.begin,
                previous_end);
    if (previous_end == region.begin) {
      previous->second += region.rows;
      return;
    }
  }
  gaps_.emplace(region.begin, region.rows);
}

}  // namespace ferro
