#pragma once

#include <cstdint>

namespace ferro::kernels {

// The CPU kernels on raw fp32 memory, without LibTorch. `threads` is the most threads a call may use; no
// result depends on it. Row results have the same bits whatever other rows are computed in the call, within
// one instruction set. No call throws except std::bad_alloc for workspace, before any output is written.

constexpr std::int64_t kPanelWidth = 32;
constexpr std::int64_t panel_count(std::int64_t out) {
  return (out + kPanelWidth - 1) / kPanelWidth;
}

/// rows x cols, `stride` floats from row to row, columns adjacent.
struct ConstMatrix {
  const float* data = nullptr;
  std::int64_t rows = 0, cols = 0, stride = 0;
};
struct Matrix {
  float* data = nullptr;
  std::int64_t rows = 0, cols = 0, stride = 0;
};

/// See AttentionSpan in model/ops.h.
struct SpanView {
  std::int32_t query_begin, query_end, prefix_begin, prefix_end, key_begin, key_end;
};
/// Rows of `heads` heads of `head_dim` adjacent floats; `stride` floats from row to row.
struct ConstHeads {
  const float* data = nullptr;
  std::int64_t stride = 0;
};
struct AttentionShape {
  std::int64_t heads = 0, kv_heads = 0, head_dim = 0;
  bool causal = true;
  const SpanView* spans = nullptr;
  std::int64_t num_spans = 0;
  std::int64_t num_queries = 0, num_keys = 0;  ///< Rows of q and of k, v.
};

/// A linear layer and where its rows go.
struct LinearPart {
  const float* panels = nullptr;
  const float* bias = nullptr;  ///< Or null.
  std::int64_t in = 0, out = 0;
  Matrix y;
};

struct TokenRow {
  float logprob, entropy;
  bool is_largest;  ///< No token is likelier.
};

struct Kernels {
  const char* name;  ///< "avx512", "avx2", "portable".

  /// y = x W^T + bias + residual. W as [panels, x.cols, 32]; bias [y.cols] or null; residual without data:
  /// none, else another matrix than y. Each element is a chain of fused multiply-adds over blocks of 512
  /// inputs, the blocks added in order, then the bias, then the residual.
  void (*linear_forward)(ConstMatrix x, const float* panels, const float* bias, ConstMatrix residual,
                         Matrix y, int threads);
  /// dx = dy W, added to what is there if `accumulate`.
  void (*linear_backward_input)(ConstMatrix dy, const float* panels, Matrix dx, bool accumulate, int threads);
  /// dpanels += dy^T x, dbias += column sums of dy (null: not wanted), rows summed in blocks of a constant
  /// size.
  void (*linear_backward_weight)(ConstMatrix x, ConstMatrix dy, float* dpanels, float* dbias, int threads);

  /// out [num_queries, heads, head_dim] and, unless null, stats [num_queries, heads, 2]: the largest score
  /// and one over the sum of exponentials above it, for the backward. Contiguous. A query without keys yields
  /// zeros.
  void (*attention_forward)(const AttentionShape& shape, ConstHeads q, ConstHeads k, ConstHeads v, float* out,
                            float* stats, int threads);
  /// dq is written, dk and dv [num_keys, kv_heads, head_dim] are written too (zero where no query looks). All
  /// contiguous.
  void (*attention_backward)(const AttentionShape& shape, ConstHeads q, ConstHeads k, ConstHeads v,
                             const float* out, const float* stats, const float* dout, float* dq, float* dk,
                             float* dv, int threads);

  /// y = x * inv_rms * weight; inv_rms [rows] or null.
  void (*rms_norm_forward)(ConstMatrix x, const float* weight, float eps, Matrix y, float* inv_rms,
                           int threads);
  /// dx is written, with `residual` (without data: none) added; it may be dy or the residual. dweight (or
  /// null) is added to.
  void (*rms_norm_backward)(ConstMatrix x, const float* weight, const float* inv_rms, ConstMatrix dy,
                            ConstMatrix residual, Matrix dx, float* dweight, int threads);
  void (*swiglu_forward)(ConstMatrix gate, ConstMatrix up, Matrix y, int threads);
  /// Outputs may lie where inputs do. y: the forward's result again; without data: not wanted.
  void (*swiglu_backward)(ConstMatrix gate, ConstMatrix up, ConstMatrix dy, Matrix dgate, Matrix dup,
                          Matrix y, int threads);
  void (*gelu_forward)(ConstMatrix x, Matrix y, int threads);
  void (*gelu_backward)(ConstMatrix x, ConstMatrix dy, Matrix dx, int threads);
  /// x [rows, heads, head_dim] with a row stride; cos and sin [rows, head_dim]; y with a row stride of its
  /// own, and it may be x. `inverse` rotates back (the gradient).
  void (*rotary)(ConstHeads x, std::int64_t rows, std::int64_t heads, std::int64_t head_dim, const float* cos,
                 const float* sin, bool inverse, float* y, std::int64_t y_stride, int threads);

  // Several steps on a chunk of rows at a time, each row's bits those of the steps one after the other.

  /// y[i] = rms_norm(x) W_i^T + bias_i for each part; inv_rms [rows] or null.
  void (*normed_linears_forward)(ConstMatrix x, const float* weight, float eps, const LinearPart* parts,
                                 std::int64_t count, float* inv_rms, int threads);
  /// y = x + down(silu(gate(n)) * up(n)) with n = rms_norm(x). Unless inv_rms is null, it and the outputs of
  /// gate and up are written for the backward (gate.y and up.y; not used otherwise).
  void (*gated_mlp_forward)(ConstMatrix x, const float* weight, float eps, const LinearPart& gate,
                            const LinearPart& up, const LinearPart& down, float* inv_rms, int threads);

  /// Row ids[i] of W out of its panels [panels, y.cols, 32].
  void (*gather_rows)(const std::int32_t* ids, const float* panels, Matrix y, int threads);
  /// Adds row i of dy to row ids[i], in the order of i, unless skip[i] (skip may be null).
  void (*scatter_add_rows)(const std::int32_t* ids, const std::uint8_t* skip, ConstMatrix dy, float* dpanels,
                           int threads);

  /// See ferro::token_logprobs: logits become probabilities in place. Row r has the tokens and results
  /// [begins[r], begins[r + 1]); begins null: one each.
  void (*token_logprobs)(Matrix logits, const std::int32_t* tokens, const std::int32_t* begins,
                         float temperature, const std::int32_t* banned, std::int64_t num_banned,
                         TokenRow* results, int threads);

  void (*exp)(const float* x, float* y, std::int64_t n);
  void (*erf)(const float* x, float* y, std::int64_t n);
};

/// The best set this processor can run; the same for the life of the process.
const Kernels& best();
/// A named set, or null when this processor (or build) lacks it.
const Kernels* find(const char* name);

}  // namespace ferro::kernels
