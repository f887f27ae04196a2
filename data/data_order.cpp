#include "data/data_order.h"

#include <limits>
#include <numeric>
#include <utility>

#include "core/error.h"
#include "core/keyed_random.h"

namespace ferro {

DataOrder::DataOrder(std::int64_t num_rows, std::uint64_t seed, bool shuffle, DataCursor cursor)
    : num_rows_(num_rows), seed_(seed), shuffle_(shuffle), cursor_(cursor) {
  if (num_rows <= 0 || num_rows > std::numeric_limits<std::int32_t>::max()) {
    fail(ErrorCode::kData, "a data set needs between 1 and 2^31 - 1 rows, this one has {}", num_rows);
  }
  if (cursor.epoch < 0 || cursor.position < 0 || cursor.position > num_rows) {
    fail(ErrorCode::kData,
         "cursor (epoch {}, position {}) lies outside a data set of {} rows: did the file change?",
         cursor.epoch, cursor.position, num_rows);
  }
}

std::int64_t DataOrder::next() {
  if (cursor_.position == num_rows_) cursor_ = {cursor_.epoch + 1, 0};
  const std::int64_t position = cursor_.position++;
  if (!shuffle_) return position;
  if (permuted_epoch_ != cursor_.epoch) permute();
  return order_[static_cast<std::size_t>(position)];
}

void DataOrder::permute() {
  order_.resize(static_cast<std::size_t>(num_rows_));
  std::iota(order_.begin(), order_.end(), 0);
  KeyedRandom random(seed_, RandomPurpose::kDataOrder, {static_cast<std::uint64_t>(cursor_.epoch)});
  for (std::size_t i = order_.size() - 1; i > 0; --i) std::swap(order_[i], order_[random.below(i + 1)]);
  permuted_epoch_ = cursor_.epoch;
}

}  // namespace ferro
