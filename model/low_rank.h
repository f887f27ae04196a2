#pragma once

#include "model/weights.h"

namespace ferro {

// What an adapter adds to a linear layer, forward and backward, for the linear layer's own use. N rows, R
// rank. The sum of base and adapter is one addition per element, and both products are the linear kernel, so
// a row's bits do not depend on the other rows.

/// What the backward needs of the forward.
struct LowRankRecord {
  at::Tensor reduced_NR;  ///< scale * dropout(x) A^T
  DropoutState dropout;   ///< As it was; not active: none.
};

LowRankRecord low_rank_record(const at::Tensor& x, const LowRankWeights& w);

/// y += scale * dropout(x) A^T B^T, in place.
LowRankRecord add_low_rank(const at::Tensor& x, const LowRankWeights& w, at::Tensor& y);

/// Adds to the gradients of A and B, and to `dx` where it is defined.
void low_rank_backward(const at::Tensor& x, const at::Tensor& grad_y, const LowRankWeights& w,
                       const LowRankRecord& record, at::Tensor& dx);

/// Rows with elements dropped and the rest scaled by 1 / (1 - rate): a pure function of seed, step, pass,
/// layer, row and column.
at::Tensor drop(const at::Tensor& x, const DropoutState& dropout, std::uint64_t layer);

}  // namespace ferro
