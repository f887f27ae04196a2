#pragma once

#include <cstdint>
#include <span>

#include "model/aten.h"
#include "model/ops.h"

namespace ferro::reference {

// The operations of model/ops.h composed of ATen operations, on any device and in any float dtype (norms,
// rotations and the softmax of half-width numbers in fp32): what CUDA runs, and the oracle of the kernels'
// tests. Autograd differentiates all of them, weights included.

at::Tensor linear(const at::Tensor& x_NI, const at::Tensor& weight_OI,
                  const at::Tensor& bias_O);  ///< Bias may be undefined.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);
at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up);
at::Tensor gelu(const at::Tensor& x);
at::Tensor rotary(const at::Tensor& x_NHE, const at::Tensor& cos_NE, const at::Tensor& sin_NE);
at::Tensor attention(const at::Tensor& q_NHE, const at::Tensor& k_RKE, const at::Tensor& v_RKE,
                     const AttentionPlan& plan);

/// Per row: softmax of the allowed logits / temperature, the log-prob of its token and the entropy in nats.
struct TokenDistribution {
  at::Tensor probabilities_NV, logprobs_N, entropies_N;
};
TokenDistribution token_distribution(const at::Tensor& logits_NV, std::span<const std::int32_t> tokens,
                                     double temperature, std::span<const std::int32_t> banned_ids);

/// Indices as an int64 tensor on `device`.
at::Tensor index_tensor(std::span<const std::int32_t> ids, at::Device device);

}  // namespace ferro::reference
