#include "trainer/adamw_kernel.h"

#define FERRO_CLONES __attribute__((target_clones("arch=skylake-avx512", "arch=haswell", "default")))

namespace ferro {

// The fused multiply-add is lerp_'s own; nothing else is contracted.
FERRO_CLONES void adamw_update(const AdamWBuffers& buffers, std::int64_t size, const AdamWFactors& factors) {
  float* __restrict__ weight = buffers.weight;
  const float* __restrict__ gradient = buffers.gradient;
  float* __restrict__ first = buffers.first;
  float* __restrict__ second = buffers.second;
  const AdamWFactors f = factors;
  for (std::int64_t i = 0; i < size; ++i) {
    const float g = gradient[i] * f.gradient_scale;
    const float m = __builtin_fmaf(f.first_weight, g - first[i], first[i]);
    const float v = second[i] * f.second_keep + f.second_weight * g * g;
    first[i] = m;
    second[i] = v;
    const float denominator = __builtin_sqrtf(v) / f.root_bias + f.epsilon;
    weight[i] = weight[i] * f.shrink + f.step_size * m / denominator;
  }
}

FERRO_CLONES double squared_sum(const float* values, std::int64_t size) {
  constexpr std::int64_t kLanes = 16;
  double lanes[kLanes] = {};
  std::int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) {
    for (std::int64_t lane = 0; lane < kLanes; ++lane) {
      const auto value = static_cast<double>(values[i + lane]);
      lanes[lane] += value * value;
    }
  }
  for (; i < size; ++i) lanes[0] += static_cast<double>(values[i]) * static_cast<double>(values[i]);
  double sum = 0;
  for (const double lane : lanes) sum += lane;
  return sum;
}

}  // namespace ferro
