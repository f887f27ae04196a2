#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/weights.h"

namespace ferro {

// The operations a block is made of. fp32. Differentiable in their tensor arguments; gradients of Params are
// added to Param::grad in place during backward. On the CPU each is a row kernel of ours whose row results
// have the same bits whatever other rows are computed with it, at any thread count; on CUDA they are composed
// of ATen operations. Shapes: N rows, D width, H heads, K key/value heads, E head dim, F inner width, V
// vocabulary.

/// x_NI -> [N, out].
at::Tensor linear(const at::Tensor& x, const LinearWeights& w);

/// residual + linear(x), the residual added in the product's last write. residual [N, out].
at::Tensor linear_onto(const at::Tensor& residual, const at::Tensor& x, const LinearWeights& w);

/// x / sqrt(mean(x^2) + eps) * weight, over the last dim.
at::Tensor rms_norm(const at::Tensor& x, const Param& weight, double eps);

/// silu(gate) * up, element by element.
at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up);

/// Exact GELU (erf).
at::Tensor gelu(const at::Tensor& x);

/// Rotates pairs (i, i + E/2) of each head: x_NHE with cos_NE, sin_NE (full width E, second half repeats the
/// first).
at::Tensor rotary(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin);

/// Queries [query_begin, query_end) see the keys [prefix_begin, prefix_end), then [key_begin, key_end).
/// Causal: the last query sees all own keys, the one before it one less, and so on. Rows index q and k/v
/// buffers; training and prefill use the same rows for both, decoding has k/v in the cache.
struct AttentionSpan {
  std::int32_t query_begin = 0, query_end = 0;
  std::int32_t prefix_begin = 0, prefix_end = 0;
  std::int32_t key_begin = 0, key_end = 0;
};
struct AttentionPlan {
  std::vector<AttentionSpan> spans;  ///< Their queries cover [0, N) in order.
  bool causal = true;
};

/// softmax(q k^T / sqrt(E)) v over each query's keys; grouped queries (H a multiple of K). q_NHE, k_RKE,
/// v_RKE -> [N, H, E]. The softmax walks the logical key index of the sequence (prefix first) in tiles of
/// constant size, so a row's bits depend on its own keys only. Backward adds key and value gradients over all
/// queries that share them.
at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     const AttentionPlan& plan);

/// Rows of the embedding matrix: ids [N] -> [N, D]. Not differentiable in autograd; see embedding_backward.
at::Tensor embedding(std::span<const std::int32_t> ids, const LinearWeights& table);
/// Adds grad_ND rows to table.weight.grad; `skip` marks rows replaced by image features (size N, or empty).
void embedding_backward(std::span<const std::int32_t> ids, const at::Tensor& grad, const LinearWeights& table,
                        std::span<const std::uint8_t> skip);

/// Gradients of a linear layer without autograd: adds to w's grads, returns dL/dx (undefined when
/// !need_input).
at::Tensor linear_backward(const at::Tensor& x, const at::Tensor& grad_y, const LinearWeights& w,
                           bool need_input);

/// The one definition of a token's log-prob: log softmax of row / temperature with banned ids at -inf.
/// logits_NV fp32 is turned in place into softmax probabilities. Per token: its log-prob, entropy (nats) of
/// the row's distribution, and whether no token is likelier. Row r has the tokens [begins[r], begins[r + 1]),
/// at least one; `begins` empty: one each.
struct TokenLogprob {
  float logprob = 0;
  float entropy = 0;
  bool is_largest = false;
};
std::vector<TokenLogprob> token_logprobs(at::Tensor& logits, std::span<const std::int32_t> tokens,
                                         double temperature, std::span<const std::int32_t> banned_ids,
                                         std::span<const std::int32_t> begins = {});

}  // namespace ferro
