#pragma once

#include <cstdint>

namespace ferro {

// The inner loops of the optimizer, on plain buffers: compiled on their own, so that square roots vectorise.
// The same arithmetic, element by element, at any vector width.

struct AdamWBuffers {
  float* weight;
  const float* gradient;
  float* first;   ///< First moment.
  float* second;  ///< Second moment.
};
struct AdamWFactors {
  float gradient_scale;              ///< The clip factor.
  float shrink;                      ///< 1 - rate * decay
  float first_weight;                ///< 1 - beta1
  float second_keep, second_weight;  ///< beta2, 1 - beta2
  float root_bias;                   ///< sqrt(1 - beta2^t)
  float epsilon;
  float step_size;  ///< -rate / (1 - beta1^t)
};

/// torch.optim.AdamW, single tensor: mul_(1 - lr wd); exp_avg.lerp_(g, 1 - b1);
/// exp_avg_sq.mul_(b2).addcmul_(g, g, 1 - b2); addcdiv_(exp_avg, sqrt(exp_avg_sq) / sqrt(bias2) + eps, -lr /
/// bias1).
void adamw_update(const AdamWBuffers& buffers, std::int64_t size, const AdamWFactors& factors);

/// Sum of squares in fp64, in a fixed order.
double squared_sum(const float* values, std::int64_t size);

}  // namespace ferro
