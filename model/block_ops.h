#pragma once

#include <cstdint>
#include <span>

#include "model/ops.h"

namespace ferro {

// The parts of vision and decoder blocks as one operation each, with the same bits as those of model/ops.h
// one after the other. On the CPU's kernels, and where no layer has an adapter, an operation keeps its input
// and little else, computes normed rows and gates again in backward, and adds the gradient of the residual in
// passing; elsewhere it is made of the operations of model/ops.h.

/// hidden + down(silu(gate(n)) * up(n)), n = rms_norm(hidden). Rows [N, D].
at::Tensor gated_mlp_onto(const at::Tensor& hidden, const Param& norm, double eps, const GatedMlpWeights& w);

struct AttentionInputs {
  at::Tensor q, k, v;   ///< [N, heads, head dim]; q and k are rotated.
  at::Tensor residual;  ///< The block's input, for what is added to it after attention.
};
struct AttentionHeads {
  std::int64_t heads = 0, kv_heads = 0, head_dim = 0;
};
/// Layers of rms_norm(hidden): {q, k, v}, or one whose rows hold all three side by side.
AttentionInputs attention_inputs(const at::Tensor& hidden, const Param& norm, double eps,
                                 std::span<const LinearWeights* const> layers, const AttentionHeads& heads,
                                 const at::Tensor& cos, const at::Tensor& sin);

}  // namespace ferro
