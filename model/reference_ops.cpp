#include "model/reference_ops.h"

#include <cmath>
#include <limits>
#include <vector>

#include "core/error.h"

namespace ferro::reference {
namespace {

/// Sums, roots and exponentials of half-width numbers are taken in fp32.
at::Tensor widened(const at::Tensor& x) {
  return at::isReducedFloatingType(x.scalar_type()) ? x.to(at::kFloat) : x;
}

/// The span's keys or values, repeated for the query heads that share them: [keys, H, E].
at::Tensor rows_seen(const at::Tensor& rows, const AttentionSpan& span, std::int64_t repeats) {
  const at::Tensor own = rows.slice(0, span.key_begin, std::max(span.key_begin, span.key_end));
  const at::Tensor seen = span.prefix_end > span.prefix_begin
                              ? at::cat({rows.slice(0, span.prefix_begin, span.prefix_end), own})
                              : own;
  return seen.repeat_interleave(repeats, 1);
}

at::Tensor attend_span(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                       const AttentionSpan& span, bool causal) {
  const std::int64_t repeats = q.size(1) / k.size(1);
  const at::Tensor queries = q.slice(0, span.query_begin, span.query_end).transpose(0, 1);  // [H, n, E]
  const at::Tensor keys = rows_seen(k, span, repeats).transpose(0, 1),
                   values = rows_seen(v, span, repeats).transpose(0, 1);
  const std::int64_t n = queries.size(1), seen = keys.size(1);
  at::Tensor scores =
      widened(queries.matmul(keys.transpose(1, 2))) / std::sqrt(static_cast<double>(q.size(2)));
  at::Tensor blind;
  if (causal) {
    // Query i of n sees the first seen - (n - 1 - i) keys, but always the prefix.
    const std::int64_t prefix = std::max(0, span.prefix_end - span.prefix_begin);
    const auto options = at::TensorOptions().dtype(at::kLong).device(q.device());
    const at::Tensor last = at::clamp_min(at::arange(seen - n + 1, seen + 1, options), prefix).unsqueeze(1);
    const at::Tensor hidden = at::arange(seen, options).unsqueeze(0) >= last;
    scores = scores.masked_fill(hidden, -std::numeric_limits<double>::infinity());
    blind = hidden.all(1, true);
  }
  at::Tensor weights = at::softmax(scores, -1);
  if (blind.defined()) weights = weights.masked_fill(blind, 0.0);
  return weights.to(values.scalar_type()).matmul(values).transpose(0, 1);
}

}  // namespace

at::Tensor linear(const at::Tensor& x_NI, const at::Tensor& weight_OI, const at::Tensor& bias_O) {
  return bias_O.defined() ? at::addmm(bias_O, x_NI, weight_OI.t()) : x_NI.mm(weight_OI.t());
}

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  const at::Tensor wide = widened(x);
  return (wide * at::rsqrt(wide.square().mean({-1}, true) + eps)).to(x.scalar_type()) * weight;
}

at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up) {
  return at::silu(gate) * up;
}

at::Tensor gelu(const at::Tensor& x) {
  return at::gelu(x);
}

at::Tensor rotary(const at::Tensor& x_NHE, const at::Tensor& cos_NE, const at::Tensor& sin_NE) {
  const std::int64_t half = x_NHE.size(2) / 2;
  const at::Tensor wide = widened(x_NHE);
  const at::Tensor turned = at::cat({-wide.slice(2, half), wide.slice(2, 0, half)}, 2);
  return (wide * cos_NE.unsqueeze(1) + turned * sin_NE.unsqueeze(1)).to(x_NHE.scalar_type());
}

at::Tensor attention(const at::Tensor& q_NHE, const at::Tensor& k_RKE, const at::Tensor& v_RKE,
                     const AttentionPlan& plan) {
  std::vector<at::Tensor> parts;
  for (const AttentionSpan& span : plan.spans)
    if (span.query_begin < span.query_end)
      parts.push_back(attend_span(q_NHE, k_RKE, v_RKE, span, plan.causal));
  return parts.empty() ? at::zeros_like(q_NHE) : at::cat(parts);
}

TokenDistribution token_distribution(const at::Tensor& logits_NV, std::span<const std::int32_t> tokens,
                                     double temperature, std::span<const std::int32_t> banned_ids) {
  at::Tensor scaled = logits_NV / temperature;
  if (!banned_ids.empty())
    scaled = scaled.index_fill(1, index_tensor(banned_ids, scaled.device()),
                               -std::numeric_limits<double>::infinity());
  const at::Tensor logprobs = at::log_softmax(scaled, 1);
  const at::Tensor probabilities = logprobs.exp();
  const at::Tensor terms = probabilities * logprobs.masked_fill(probabilities == 0, 0.0);
  return {probabilities, logprobs.gather(1, index_tensor(tokens, scaled.device()).unsqueeze(1)).squeeze(1),
          -terms.sum({1})};
}

at::Tensor index_tensor(std::span<const std::int32_t> ids, at::Device device) {
  at::Tensor indices = at::empty({static_cast<std::int64_t>(ids.size())}, at::kLong);
  std::copy(ids.begin(), ids.end(), indices.mutable_data_ptr<std::int64_t>());
  return indices.to(device);
}

}  // namespace ferro::reference
