#include "trainer/adamw_kernel.h"

// A body is compiled once per instruction set and chosen by what the processor can do. (GCC's target_clones
// asks for the very model that `arch=` names, and its feature names cannot be combined.)
#if defined(__x86_64__)
#define FERRO_TARGET_AVX512 __attribute__((target("avx512f,avx512vl,avx512dq,fma,prefer-vector-width=512")))
#define FERRO_TARGET_AVX2 __attribute__((target("avx2,fma")))
#endif

namespace ferro {
namespace {

// The fused multiply-add is lerp_'s own; nothing else is contracted.
__attribute__((always_inline)) inline void update(const AdamWBuffers& buffers, std::int64_t size,
                                                  const AdamWFactors& f) {
  float* __restrict__ weight = buffers.weight;
  const float* __restrict__ gradient = buffers.gradient;
  float* __restrict__ first = buffers.first;
  float* __restrict__ second = buffers.second;
  const float gradient_scale = f.gradient_scale, shrink = f.shrink, first_weight = f.first_weight;
  const float second_keep = f.second_keep, second_weight = f.second_weight;
  const float root_bias = f.root_bias, epsilon = f.epsilon, step_size = f.step_size;
  for (std::int64_t i = 0; i < size; ++i) {
    const float g = gradient[i] * gradient_scale;
    const float m = __builtin_fmaf(first_weight, g - first[i], first[i]);
    const float v = second[i] * second_keep + second_weight * g * g;
    first[i] = m;
    second[i] = v;
    const float denominator = __builtin_sqrtf(v) / root_bias + epsilon;
    weight[i] = weight[i] * shrink + step_size * m / denominator;
  }
}

__attribute__((always_inline)) inline double sum_of_squares(const float* values, std::int64_t size) {
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

using Update = void (*)(const AdamWBuffers&, std::int64_t, const AdamWFactors&);
using SumOfSquares = double (*)(const float*, std::int64_t);

void update_portable(const AdamWBuffers& b, std::int64_t size, const AdamWFactors& f) {
  update(b, size, f);
}
double sum_portable(const float* values, std::int64_t size) {
  return sum_of_squares(values, size);
}

#if defined(__x86_64__)
FERRO_TARGET_AVX512 void update_avx512(const AdamWBuffers& b, std::int64_t size, const AdamWFactors& f) {
  update(b, size, f);
}
FERRO_TARGET_AVX2 void update_avx2(const AdamWBuffers& b, std::int64_t size, const AdamWFactors& f) {
  update(b, size, f);
}
FERRO_TARGET_AVX512 double sum_avx512(const float* values, std::int64_t size) {
  return sum_of_squares(values, size);
}
FERRO_TARGET_AVX2 double sum_avx2(const float* values, std::int64_t size) {
  return sum_of_squares(values, size);
}

bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512dq");
}
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

Update best_update() {
  return has_avx512() ? update_avx512 : has_avx2() ? update_avx2 : update_portable;
}
SumOfSquares best_sum() {
  return has_avx512() ? sum_avx512 : has_avx2() ? sum_avx2 : sum_portable;
}
#else
Update best_update() {
  return update_portable;
}
SumOfSquares best_sum() {
  return sum_portable;
}
#endif

}  // namespace

void adamw_update(const AdamWBuffers& buffers, std::int64_t size, const AdamWFactors& factors) {
  static const Update kBest = best_update();
  kBest(buffers, size, factors);
}

double squared_sum(const float* values, std::int64_t size) {
  static const SumOfSquares kBest = best_sum();
  return kBest(values, size);
}

}  // namespace ferro
