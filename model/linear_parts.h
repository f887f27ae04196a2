#pragma once

#include "model/weights.h"

namespace ferro {

// What the operations of a block share with the linear layer.

/// Panels are the CPU kernels' layout; a matrix as in files runs on ATen.
bool in_panels(const LinearWeights& w);

/// Null: none. Of a layer in panels.
const float* bias_of(const LinearWeights& w);

/// dx = grad_y W of a layer in panels without its adapter, or added to dx. Rows of floats on the CPU.
void put_input_gradient(const at::Tensor& grad_y, const LinearWeights& w, at::Tensor& dx, bool accumulate);

}  // namespace ferro
