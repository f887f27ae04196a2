#pragma once

#include <cstdint>
#include <vector>

namespace ferro {

/// Position of the stream of rows: all that resume needs.
struct DataCursor {
  std::int64_t epoch = 0;
  std::int64_t position = 0;  ///< Within the epoch.
  bool operator==(const DataCursor&) const = default;
};

/// The order of rows as a pure function: a keyed permutation of [0, num_rows) per epoch (or file order).
/// Thread-compatible.
class DataOrder {
 public:
  DataOrder(std::int64_t num_rows, std::uint64_t seed, bool shuffle, DataCursor cursor = {});
  std::int64_t next();  ///< Row index; advances, and starts the next epoch after the last row.
  DataCursor cursor() const { return cursor_; }

 private:
  void permute();
  std::int64_t num_rows_;
  std::uint64_t seed_;
  bool shuffle_;
  DataCursor cursor_;
  std::int64_t permuted_epoch_ = -1;
  std::vector<std::int32_t> order_;
};

}  // namespace ferro
