#include "rollout/position_rotary.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "core/error.h"

namespace ferro {

void PositionRotary::grow(std::int32_t length) {
  length_ = std::max({length, 2 * length_, 256});
  std::vector<std::int32_t> ids(3 * static_cast<std::size_t>(length_));
  for (std::ptrdiff_t axis = 0; axis < 3; ++axis) {
    const auto begin = ids.begin() + axis * length_;
    std::iota(begin, begin + length_, 0);
  }
  table_ = text_rotary(ids, config_, device_);
}

Rotary PositionRotary::rows(std::span<const std::int32_t> positions) {
  FERRO_CHECK(!positions.empty(), "no positions");
  const std::int32_t last = *std::max_element(positions.begin(), positions.end());
  if (last >= length_) grow(last + 1);
  const at::Tensor index =
      at::tensor(at::ArrayRef<std::int32_t>(positions.data(), positions.size()), at::kInt).to(device_);
  return {table_.cos.index_select(0, index), table_.sin.index_select(0, index)};
}

}  // namespace ferro
