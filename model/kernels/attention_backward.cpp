// Gradients of attention from the saved outputs and softmax statistics:
//   P = exp(s - top) / sum, dP = dO V^T, dS = P (dP - rowsum(dO O)), dQ = dS K / sqrt(E), dK = dS^T Q /
//   sqrt(E), dV = P^T dO.
// One thread takes all queries that share keys, in order, so key gradients need no atomics and have the same
// bits at any thread count.
#include <omp.h>

#include "model/kernels/attention_parts.h"
#include "model/kernels/attention_work.h"
#include "model/kernels/isa.h"
#include "model/kernels/workspace.h"

namespace ferro::kernels::FERRO_KERNEL_ISA {
namespace {

constexpr std::int64_t kRows = 4 * kTileRows;

struct Inputs {
  const AttentionShape& shape;
  ConstHeads q, k, v;
  const float *out, *stats, *dout;
  float *dq, *dk, *dv;
  std::int64_t group, width, wide, queries, score_stride;
};

/// A range of keys with what is computed from it and added up for it.
struct KeySpace {
  float *keys, *values;  ///< Panels of 32 keys.
  float* key_rows;       ///< Packed rows, where E is not a multiple of 32.
  float *dk, *dv;        ///< [count, wide]
};
struct Space {
  KeySpace prefix, own;
  float *q, *dout, *scores, *dscores, *dq;
};

KeySpace lay_out_keys(const Inputs& in, std::int64_t count, SpaceTaker& take) {
  KeySpace keys{};
  keys.keys = take(padded(count) * in.width);
  keys.values = take(padded(count) * in.width);
  keys.key_rows = take(in.width != in.wide ? count * in.wide : 0);
  keys.dk = take(count * in.wide);
  keys.dv = take(count * in.wide);
  return keys;
}

std::int64_t lay_out(const Inputs& in, std::int64_t max_prefix, std::int64_t max_own, float* base,
                     Space& space) {
  SpaceTaker take(base);
  const std::int64_t rows = in.queries * in.group;
  space.prefix = lay_out_keys(in, max_prefix, take);
  space.own = lay_out_keys(in, max_own, take);
  space.q = take(rows * in.wide);
  space.dout = take(rows * in.wide);
  space.scores = take(rows * in.score_stride);
  space.dscores = take(rows * in.score_stride);
  space.dq = take(rows * in.wide);
  return take.taken();
}

float dot(const float* a, const float* b, std::int64_t n) {
  Vec sum = zero();
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) sum = fma(load(a + i), load(b + i), sum);
  const int rest = static_cast<int>(n - i);
  if (rest > 0) sum = fma(load_first(a + i, rest), load_first(b + i, rest), sum);
  return sum_lanes(sum);
}

/// Scores become probabilities and dscores their gradients, over n keys; zero up to `end`.
void softmax_backward(float* scores, float* dscores, std::int64_t n, std::int64_t end, const float* stats,
                      float inner) {
  const Vec shift = broadcast(stats[0]), inverse = broadcast(stats[1]), minus = broadcast(inner);
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const Vec p = exp(load(scores + i) - shift) * inverse;
    store(scores + i, p);
    store(dscores + i, p * (load(dscores + i) - minus));
  }
  const int rest = static_cast<int>(n - i);
  if (rest > 0) {
    const Vec p = keep_first(exp(load_first(scores + i, rest) - shift) * inverse, rest, 0.0f);
    const Vec d = keep_first(p * (load_first(dscores + i, rest) - minus), rest, 0.0f);
    store(scores + i, p);
    store(dscores + i, d);
    i += kLanes;
  }
  for (; i < end; i += kLanes) {
    store(scores + i, zero());
    store(dscores + i, zero());
  }
}

class ComponentRunner {
 public:
  ComponentRunner(const Inputs& in, std::int64_t kv_head, const Space& space)
      : in_(in),
        head_(kv_head),
        space_(space),
        scale_(1.0f / __builtin_sqrtf(static_cast<float>(in.width))) {}

  void run(const std::int32_t* spans, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) {
      const SpanView& s = in_.shape.spans[spans[i]];
      const std::int64_t prefix = most(0, s.prefix_end - s.prefix_begin);
      if (prefix != prefix_count_ || (prefix > 0 && s.prefix_begin != prefix_begin_)) {
        finish_keys(space_.prefix, prefix_begin_, prefix_count_);
        prefix_begin_ = s.prefix_begin;
        prefix_count_ = prefix;
        prefix_rows_ = start_keys(space_.prefix, prefix_begin_, prefix_count_);
      }
      run_span(s);
    }
    finish_keys(space_.prefix, prefix_begin_, prefix_count_);
  }

 private:
  RightRows start_keys(const KeySpace& keys, std::int64_t begin, std::int64_t count) {
    if (count == 0) return {nullptr, 0};
    const float* k = in_.k.data + begin * in_.k.stride + head_ * in_.width;
    const float* v = in_.v.data + begin * in_.v.stride + head_ * in_.width;
    pack_keys(k, in_.k.stride, count, in_.width, keys.keys);
    pack_keys(v, in_.v.stride, count, in_.width, keys.values);
    zero_floats(keys.dk, count * in_.wide);
    zero_floats(keys.dv, count * in_.wide);
    return right_rows(k, in_.k.stride, count, in_.width, keys.key_rows);
  }

  void finish_keys(const KeySpace& keys, std::int64_t begin, std::int64_t count) {
    const std::int64_t stride = in_.shape.kv_heads * in_.width;
    for (std::int64_t r = 0; r < count; ++r) {
      const std::int64_t at = (begin + r) * stride + head_ * in_.width;
      add_floats(in_.dk + at, keys.dk + r * in_.wide, in_.width);
      add_floats(in_.dv + at, keys.dv + r * in_.wide, in_.width);
    }
  }

  void run_span(const SpanView& span) {
    const std::int64_t own = most(0, own_keys(span, span.query_end - 1, in_.shape.causal));
    own_rows_ = start_keys(space_.own, span.key_begin, own);
    for (std::int64_t query = span.query_begin; query < span.query_end; query += in_.queries)
      block(span, query, least(query + in_.queries, span.query_end));
    finish_keys(space_.own, span.key_begin, own);
  }

  std::int64_t flat_row(std::int64_t query) const { return query * in_.shape.heads + head_ * in_.group; }

  void block(const SpanView& span, std::int64_t begin, std::int64_t end) {
    const std::int64_t rows = (end - begin) * in_.group;
    const std::int64_t own = own_keys(span, end - 1, in_.shape.causal);
    if (prefix_count_ + own == 0) return zero_queries(begin, rows);
    load_rows(begin, end);
    products(space_.q, space_.prefix.keys, space_.own.keys, rows, own, space_.scores);
    products(space_.dout, space_.prefix.values, space_.own.values, rows, own, space_.dscores);
    for (std::int64_t query = begin; query < end; ++query)
      for (std::int64_t g = 0; g < in_.group; ++g) {
        const std::int64_t row = (query - begin) * in_.group + g, at = flat_row(query) + g;
        softmax_backward(space_.scores + row * in_.score_stride, space_.dscores + row * in_.score_stride,
                         prefix_count_ + own_keys(span, query, in_.shape.causal), prefix_count_ + own,
                         in_.stats + 2 * at,
                         dot(in_.out + at * in_.width, in_.dout + at * in_.width, in_.width));
      }
    query_gradient(begin, rows, own);
    key_gradients(space_.prefix, 0, prefix_count_, rows);
    key_gradients(space_.own, prefix_count_, own, rows);
  }

  void zero_queries(std::int64_t begin, std::int64_t rows) {
    const std::int64_t queries = rows / in_.group;
    for (std::int64_t i = 0; i < queries; ++i)
      zero_floats(in_.dq + flat_row(begin + i) * in_.width, in_.group * in_.width);
  }

  void load_rows(std::int64_t begin, std::int64_t end) {
    for (std::int64_t query = begin; query < end; ++query)
      for (std::int64_t g = 0; g < in_.group; ++g) {
        const std::int64_t row = ((query - begin) * in_.group + g) * in_.wide;
        scaled_row(in_.q.data + query * in_.q.stride + (head_ * in_.group + g) * in_.width, scale_, in_.width,
                   space_.q + row);
        copy_floats(space_.dout + row, in_.dout + (flat_row(query) + g) * in_.width, in_.width);
        zero_floats(space_.q + row + in_.width, in_.wide - in_.width);
        zero_floats(space_.dout + row + in_.width, in_.wide - in_.width);
      }
  }

  void products(const float* rows_of, const float* prefix, const float* own, std::int64_t rows,
                std::int64_t own_count, float* to) {
    scores_of(rows_of, in_.wide, rows, in_.width, prefix, prefix_count_, to, in_.score_stride);
    scores_of(rows_of, in_.wide, rows, in_.width, own, own_count, to + prefix_count_, in_.score_stride);
  }

  void query_gradient(std::int64_t begin, std::int64_t rows, std::int64_t own) {
    if (prefix_count_ > 0)
      multiply({space_.dscores, in_.score_stride, rows, prefix_count_, prefix_rows_.data, prefix_rows_.stride,
                kPanelWidth, in_.wide, space_.dq, in_.wide, Into::kStore, nullptr});
    if (own > 0)
      multiply({space_.dscores + prefix_count_, in_.score_stride, rows, own, own_rows_.data, own_rows_.stride,
                kPanelWidth, in_.wide, space_.dq, in_.wide,
                prefix_count_ > 0 ? Into::kContinue : Into::kStore, nullptr});
    for (std::int64_t row = 0; row < rows; ++row)
      scaled_row(space_.dq + row * in_.wide, scale_, in_.width,
                 in_.dq + (flat_row(begin + row / in_.group) + row % in_.group) * in_.width);
  }

  void key_gradients(const KeySpace& keys, std::int64_t column, std::int64_t count, std::int64_t rows) {
    if (count == 0) return;
    multiply<true>({space_.dscores + column, in_.score_stride, count, rows, space_.q, in_.wide, kPanelWidth,
                    in_.wide, keys.dk, in_.wide, Into::kContinue, nullptr});
    multiply<true>({space_.scores + column, in_.score_stride, count, rows, space_.dout, in_.wide, kPanelWidth,
                    in_.wide, keys.dv, in_.wide, Into::kContinue, nullptr});
  }

  const Inputs& in_;
  std::int64_t head_;
  Space space_;
  float scale_;
  std::int64_t prefix_begin_ = 0, prefix_count_ = 0;
  RightRows prefix_rows_{}, own_rows_{};
};

void attention_backward(const AttentionShape& shape, ConstHeads q, ConstHeads k, ConstHeads v,
                        const float* out, const float* stats, const float* dout, float* dq, float* dk,
                        float* dv, int threads) {
  const std::int64_t key_floats = shape.num_keys * shape.kv_heads * shape.head_dim;
  if (key_floats > 0) {
    zero_floats(dk, key_floats);
    zero_floats(dv, key_floats);
  }
  const AttentionComponents work = backward_components(shape);
  if (work.count == 0) return;
  Inputs in{shape,
            q,
            k,
            v,
            out,
            stats,
            dout,
            dq,
            dk,
            dv,
            shape.heads / shape.kv_heads,
            shape.head_dim,
            padded(shape.head_dim),
            0,
            0};
  in.queries = most(1, kRows / in.group);
  in.score_stride = padded(work.max_prefix) + padded(work.max_own) + kPanelWidth;
  if (shape.num_queries * shape.heads * shape.head_dim < 4096) threads = 1;
  Space unused{};
  const std::int64_t each = lay_out(in, work.max_prefix, work.max_own, nullptr, unused);
  float* base = workspace(threads * each);
#pragma omp parallel for num_threads(threads) schedule(dynamic) if (threads > 1)
  for (std::int64_t task = 0; task < work.count * shape.kv_heads; ++task) {
    Space space{};
    lay_out(in, work.max_prefix, work.max_own, base + omp_get_thread_num() * each, space);
    const std::int64_t component = task / shape.kv_heads;
    const std::int64_t first = work.offsets[component];
    ComponentRunner(in, task % shape.kv_heads, space)
        .run(work.spans + first, work.offsets[component + 1] - first);
  }
}

}  // namespace

void add_attention_backward(Kernels& table) {
  table.attention_backward = attention_backward;
}

}  // namespace ferro::kernels::FERRO_KERNEL_ISA
