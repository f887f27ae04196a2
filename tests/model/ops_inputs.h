#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <initializer_list>
#include <random>
#include <vector>

#include "core/error.h"
#include "model/aten.h"
#include "model/kernels/kernels.h"
#include "model/ops.h"
#include "model/reference_ops.h"

// Inputs and comparisons of the operations' tests.

namespace ferro::testing {

/// Normal fp32 values; the same for the same seed.
inline at::Tensor random_tensor(std::vector<std::int64_t> shape, unsigned seed, float scale = 1.0f) {
  at::Tensor t = at::empty(shape, at::kFloat);
  std::mt19937 bits(seed);
  std::normal_distribution<float> normal(0.0f, scale);
  std::generate_n(t.mutable_data_ptr<float>(), t.numel(), [&] { return normal(bits); });
  return t;
}

/// [out, in] as panels of 32 rows, [panels, in, 32], the last padded with zeros.
inline at::Tensor to_panels(const at::Tensor& matrix) {
  const std::int64_t out = matrix.size(0), in = matrix.size(1), panels = kernels::panel_count(out);
  at::Tensor padded = at::zeros({panels * 32, in}, matrix.options());
  padded.slice(0, 0, out).copy_(matrix);
  return padded.view({panels, 32, in}).transpose(1, 2).contiguous();
}
inline at::Tensor from_panels(const at::Tensor& panels, std::int64_t out) {
  return panels.transpose(1, 2).reshape({panels.size(0) * 32, panels.size(1)}).slice(0, 0, out).contiguous();
}

struct LinearCase {
  at::Tensor weight, bias;  ///< As in files, fp32; bias undefined: none.
  LinearWeights panels;     ///< With zero gradients.
};
inline LinearCase random_linear(std::int64_t in, std::int64_t out, bool bias, unsigned seed) {
  LinearCase c;
  c.weight = random_tensor({out, in}, seed, 1.0f / std::sqrt(static_cast<float>(in)));
  c.panels.in = in;
  c.panels.out = out;
  c.panels.weight.value = to_panels(c.weight);
  c.panels.weight.grad = at::zeros_like(c.panels.weight.value);
  if (bias) {
    c.bias = random_tensor({out}, seed + 1);
    c.panels.bias = {c.bias, at::zeros_like(c.bias)};
  }
  return c;
}

inline at::Tensor as_double_leaf(const at::Tensor& t) {
  return t.detach().to(at::kDouble).clone().set_requires_grad(true);
}

/// Largest |a - b|, relative to the largest |b| (or 1 when b is all zeros).
inline double relative_difference(const at::Tensor& a, const at::Tensor& b) {
  if (b.numel() == 0) return a.numel() == 0 ? 0.0 : 1.0;
  const double scale = b.to(at::kDouble).abs().max().item<double>();
  const double difference = (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
  return difference / (scale > 0 ? scale : 1.0);
}

/// Equal in every bit (at::equal takes -0 for 0).
inline bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  if (a.sizes() != b.sizes()) return false;
  const at::Tensor x = a.contiguous(), y = b.contiguous();
  return x.numel() == 0 || std::memcmp(x.const_data_ptr(), y.const_data_ptr(),
                                       static_cast<std::size_t>(x.numel()) * sizeof(float)) == 0;
}

/// Sets LibTorch's thread count for a scope.
class Threads {
 public:
  explicit Threads(int count) : before_(at::get_num_threads()) { at::set_num_threads(count); }
  ~Threads() { at::set_num_threads(before_); }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

 private:
  int before_;
};

/// A prompt of `prompt` rows, then answers that share it: the group-packed layout. Rows start at `first`.
inline void append_group(AttentionPlan& plan, std::int32_t& first, std::int32_t prompt,
                         std::initializer_list<std::int32_t> answers) {
  const std::int32_t begin = first;
  plan.spans.push_back({begin, begin + prompt, 0, 0, begin, begin + prompt});
  first += prompt;
  for (const std::int32_t length : answers) {
    plan.spans.push_back({first, first + length, begin, begin + prompt, first, first + length});
    first += length;
  }
}

inline std::vector<at::Tensor> gradients(const at::Tensor& output, const std::vector<at::Tensor>& inputs,
                                         const at::Tensor& grad) {
  return torch::autograd::grad({output}, inputs, {grad});
}

}  // namespace ferro::testing
