#pragma once

#include <cstdint>
#include <map>
#include <optional>

namespace ferro {

/// Adjacent rows of the key/value cache.
struct RowRegion {
  std::int32_t begin = 0, rows = 0;
  std::int32_t end() const { return begin + rows; }
};

/// Hands out regions of [0, capacity), lowest place first; neighbours that are given back join. One thread.
class RowAllocator {
 public:
  explicit RowAllocator(std::int32_t capacity);
  /// Empty result: no gap is long enough. A region of no rows always fits.
  std::optional<RowRegion> allocate(std::int32_t rows);
  /// REQUIRES: a region of allocate(), given back once.
  void release(RowRegion region);
  std::int32_t free_rows() const { return free_rows_; }
  std::int32_t capacity() const { return capacity_; }

 private:
  std::int32_t capacity_, free_rows_;
  std::map<std::int32_t, std::int32_t> gaps_;  ///< Begin -> rows.
};

}  // namespace ferro
