#pragma once

#include <cstdint>
#include <vector>

#include "model/dist/communicator.h"

namespace ferro {

/// The part of `elements` that `rank` of `ranks` sums: [begin, begin + length).
struct RankSlice {
  std::int64_t begin = 0, length = 0;
};
inline RankSlice rank_slice(std::int64_t elements, int rank, int ranks) {
  const std::int64_t begin = elements * rank / ranks;
  return {begin, elements * (rank + 1) / ranks - begin};
}

/// Sum of the ranks' parts in their order, of the parts' dtype; halves are summed in fp32 and rounded once.
at::Tensor sum_in_rank_order(const std::vector<at::Tensor>& parts);

}  // namespace ferro
