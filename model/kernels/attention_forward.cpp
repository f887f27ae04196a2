// softmax(q k^T / sqrt(E)) v. A row's scores are chains over E, its sum runs over the logical key index by
// lanes, its values are one chain over the logical keys: nothing depends on the rows beside it or on where
// the prefix ends.
#include <omp.h>

#include "model/kernels/attention_parts.h"
#include "model/kernels/attention_work.h"
#include "model/kernels/isa.h"
#include "model/kernels/workspace.h"

namespace ferro::kernels::FERRO_KERNEL_ISA {
namespace {

constexpr std::int64_t kRows = 2 * kTileRows;

struct Inputs {
  const AttentionShape& shape;
  ConstHeads q, k, v;
  float* out;
  float* stats;
  std::int64_t group, width, wide;  ///< Query heads per key/value head, E, E padded.
  std::int64_t queries;             ///< Per block of rows.
  std::int64_t score_stride;
};

/// Where one thread's workspace puts what.
struct Space {
  float *prefix_keys, *own_keys, *prefix_values, *own_values, *q, *scores, *out, *inverses;
};

/// Fills `space` when `base` is given; returns the floats needed.
std::int64_t lay_out(const Inputs& in, std::int64_t max_prefix, std::int64_t max_own, float* base,
                     Space& space) {
  SpaceTaker take(base);
  const std::int64_t rows = in.queries * in.group;
  const bool pack_values = in.width != in.wide;
  space.prefix_keys = take(padded(max_prefix) * in.width);
  space.own_keys = take(padded(max_own) * in.width);
  space.prefix_values = take(pack_values ? max_prefix * in.wide : 0);
  space.own_values = take(pack_values ? max_own * in.wide : 0);
  space.q = take(rows * in.width);
  space.scores = take(rows * in.score_stride);
  space.out = take(rows * in.wide);
  space.inverses = take(rows);
  return take.taken();
}

/// One task for one key/value head.
class TaskRunner {
 public:
  TaskRunner(const Inputs& in, const AttentionTask& task, std::int64_t kv_head, const Space& space)
      : in_(in),
        task_(task),
        head_(kv_head),
        space_(space),
        scale_(1.0f / __builtin_sqrtf(static_cast<float>(in.width))) {
    const SpanView& first = in.shape.spans[task.span_begin];
    prefix_ = most(0, first.prefix_end - first.prefix_begin);
    const std::int64_t at = first.prefix_begin;
    if (prefix_ == 0) return;
    pack_keys(in.k.data + at * in.k.stride + head_ * in.width, in.k.stride, prefix_, in.width,
              space.prefix_keys);
    prefix_values_ = right_rows(in.v.data + at * in.v.stride + head_ * in.width, in.v.stride, prefix_,
                                in.width, space.prefix_values);
  }

  void run() {
    std::int64_t span = task_.span_begin;
    for (std::int64_t query = task_.query_begin; query < task_.query_end; query += in_.queries) {
      const std::int64_t end = least(query + in_.queries, task_.query_end);
      while (in_.shape.spans[span].query_end <= query) ++span;
      block(query, end, span);
    }
  }

 private:
  std::int64_t row_of(std::int64_t query, std::int64_t first) const { return (query - first) * in_.group; }

  /// Asks for the next block's queries while this one is computed: they come from far away.
  void prefetch(std::int64_t begin, std::int64_t end) const {
    for (std::int64_t query = begin; query < end; ++query) {
      const float* row = in_.q.data + query * in_.q.stride + head_ * in_.group * in_.width;
      for (std::int64_t i = 0; i < in_.group * in_.width; i += 16) __builtin_prefetch(row + i);
    }
  }

  void block(std::int64_t begin, std::int64_t end, std::int64_t first_span) {
    const std::int64_t rows = row_of(end, begin);
    for (std::int64_t query = begin; query < end; ++query)
      scaled_row(in_.q.data + query * in_.q.stride + head_ * in_.group * in_.width, scale_,
                 in_.group * in_.width, space_.q + row_of(query, begin) * in_.width);
    prefetch(end, least(end + in_.queries, task_.query_end));
    scores_of(space_.q, in_.width, rows, in_.width, space_.prefix_keys, prefix_, space_.scores,
              in_.score_stride);
    for_each_piece(begin, end, first_span, [&](std::int64_t span, std::int64_t from, std::int64_t to) {
      score_own(span, from, to, begin);
    });
    if (prefix_ > 0)
      multiply({space_.scores, in_.score_stride, rows, prefix_, prefix_values_.data, prefix_values_.stride,
                kPanelWidth, in_.wide, space_.out, in_.wide, Into::kStore, nullptr});
    for_each_piece(begin, end, first_span, [&](std::int64_t span, std::int64_t from, std::int64_t to) {
      value_own(span, from, to, begin);
    });
    for (std::int64_t query = begin; query < end; ++query) write(query, row_of(query, begin));
  }

  /// The parts of [begin, end) that belong to one span each.
  template <class Visit>
  void for_each_piece(std::int64_t begin, std::int64_t end, std::int64_t span, Visit visit) {
    for (; span < task_.span_end && in_.shape.spans[span].query_begin < end; ++span) {
      const std::int64_t from = most(begin, in_.shape.spans[span].query_begin),
                         to = least(end, in_.shape.spans[span].query_end);
      if (from < to) visit(span, from, to);
    }
  }

  void score_own(std::int64_t index, std::int64_t from, std::int64_t to, std::int64_t begin) {
    const SpanView& span = in_.shape.spans[index];
    const std::int64_t last = own_keys(span, to - 1, in_.shape.causal);
    if (keys_of_ != index) {
      const std::int64_t needed =
          own_keys(span, least(span.query_end, task_.query_end) - 1, in_.shape.causal);
      pack_keys(in_.k.data + span.key_begin * in_.k.stride + head_ * in_.width, in_.k.stride, needed,
                in_.width, space_.own_keys);
      keys_of_ = index;
    }
    const std::int64_t row = row_of(from, begin);
    float* scores = space_.scores + row * in_.score_stride;
    scores_of(space_.q + row * in_.width, in_.width, row_of(to, from), in_.width, space_.own_keys, last,
              scores + prefix_, in_.score_stride);
    for (std::int64_t query = from; query < to; ++query)
      for (std::int64_t g = 0; g < in_.group; ++g) {
        const std::int64_t r = row_of(query, begin) + g;
        softmax(query, g, r, prefix_ + own_keys(span, query, in_.shape.causal), prefix_ + last);
      }
  }

  void softmax(std::int64_t query, std::int64_t g, std::int64_t row, std::int64_t count, std::int64_t end) {
    float* scores = space_.scores + row * in_.score_stride;
    const float top = count > 0 ? row_max(scores, count) : 0.0f;
    const float sum = exp_row(scores, count, end, top);
    const float inverse = sum > 0.0f || sum != sum ? 1.0f / sum : 0.0f;
    space_.inverses[row] = inverse;
    if (in_.stats == nullptr) return;
    float* stats = in_.stats + 2 * (query * in_.shape.heads + head_ * in_.group + g);
    stats[0] = top;
    stats[1] = inverse;
  }

  void value_own(std::int64_t index, std::int64_t from, std::int64_t to, std::int64_t begin) {
    const SpanView& span = in_.shape.spans[index];
    const std::int64_t last = own_keys(span, to - 1, in_.shape.causal);
    if (values_of_ != index) {
      const std::int64_t needed =
          own_keys(span, least(span.query_end, task_.query_end) - 1, in_.shape.causal);
      own_values_ = right_rows(in_.v.data + span.key_begin * in_.v.stride + head_ * in_.width, in_.v.stride,
                               needed, in_.width, space_.own_values);
      values_of_ = index;
    }
    const std::int64_t row = row_of(from, begin);
    multiply({space_.scores + row * in_.score_stride + prefix_, in_.score_stride, row_of(to, from), last,
              own_values_.data, own_values_.stride, kPanelWidth, in_.wide, space_.out + row * in_.wide,
              in_.wide, prefix_ > 0 ? Into::kContinue : Into::kStore, nullptr});
  }

  void write(std::int64_t query, std::int64_t row) const {
    float* to = in_.out + (query * in_.shape.heads + head_ * in_.group) * in_.width;
    for (std::int64_t g = 0; g < in_.group; ++g, to += in_.width) {
      const Vec inverse = broadcast(space_.inverses[row + g]);
      const float* from = space_.out + (row + g) * in_.wide;
      // Masked keys of a row add +0; adding it here too makes a lone -0 the same everywhere.
      std::int64_t i = 0;
      for (; i + kLanes <= in_.width; i += kLanes) store(to + i, fma(load(from + i), inverse, zero()));
      const int rest = static_cast<int>(in_.width - i);
      if (rest > 0) store_first(to + i, rest, fma(load(from + i), inverse, zero()));
    }
  }

  const Inputs& in_;
  const AttentionTask& task_;
  std::int64_t head_;
  Space space_;
  float scale_;
  std::int64_t prefix_ = 0;
  RightRows prefix_values_{}, own_values_{};
  std::int64_t keys_of_ = -1, values_of_ = -1;
};

void attention_forward(const AttentionShape& shape, ConstHeads q, ConstHeads k, ConstHeads v, float* out,
                       float* stats, int threads) {
  const AttentionTasks work = forward_tasks(shape);
  if (work.count == 0) return;
  Inputs in{shape, q, k, v, out, stats, shape.heads / shape.kv_heads, shape.head_dim, padded(shape.head_dim),
            0,     0};
  in.queries = most(1, kRows / in.group);
  in.score_stride = padded(work.max_prefix) + padded(work.max_own) + kPanelWidth;
  const std::int64_t tasks = work.count * shape.kv_heads;
  if (shape.num_queries * shape.heads * shape.head_dim < 4096) threads = 1;
  Space unused{};
  const std::int64_t each = lay_out(in, work.max_prefix, work.max_own, nullptr, unused);
  float* base = workspace(threads * each);
#pragma omp parallel for num_threads(threads) schedule(dynamic) if (threads > 1)
  for (std::int64_t task = 0; task < tasks; ++task) {
    Space space;
    lay_out(in, work.max_prefix, work.max_own, base + omp_get_thread_num() * each, space);
    TaskRunner(in, work.tasks[task / shape.kv_heads], task % shape.kv_heads, space).run();
  }
}

}  // namespace

void add_attention_forward(Kernels& table) {
  table.attention_forward = attention_forward;
}

}  // namespace ferro::kernels::FERRO_KERNEL_ISA
