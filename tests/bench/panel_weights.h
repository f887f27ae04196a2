#pragma once

#include "model/aten.h"
#include "model/kernels/kernels.h"
#include "model/weights.h"

namespace ferro::bench {

/// A [out, in] matrix as the model keeps it on the CPU, with room for its gradient.
inline LinearWeights panels_of(const at::Tensor& matrix) {
  LinearWeights w;
  w.out = matrix.size(0);
  w.in = matrix.size(1);
  at::Tensor padded = at::zeros({kernels::panel_count(w.out) * 32, w.in});
  padded.slice(0, 0, w.out).copy_(matrix);
  w.weight.value = padded.view({-1, 32, w.in}).transpose(1, 2).contiguous();
  w.weight.grad = at::zeros_like(w.weight.value);
  return w;
}

}  // namespace ferro::bench
