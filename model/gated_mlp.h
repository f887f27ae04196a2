#pragma once

#include "model/ops.h"

namespace ferro {

/// down(silu(gate(x)) * up(x)): the feed-forward part of vision and decoder blocks.
inline at::Tensor gated_mlp(const at::Tensor& x, const GatedMlpWeights& w) {
  return linear(swiglu(linear(x, w.gate), linear(x, w.up)), w.down);
}

}  // namespace ferro
