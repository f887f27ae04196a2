#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "model/dist/communicator.h"

namespace ferro {

/// Sum of the ranks' parts in their order, of the parts' dtype; halves are summed in fp32 and rounded once.
at::Tensor sum_in_rank_order(const std::vector<at::Tensor>& parts);

/// Error{kInternal} naming `operation`: not bounds of a buffer of `elements` for `ranks`.
void check_bounds(std::string_view operation, std::span<const std::int64_t> bounds, std::int64_t elements,
                  int ranks);

/// A number by which ranks compare their bounds.
std::int64_t digest_of(std::span<const std::int64_t> bounds);

}  // namespace ferro
