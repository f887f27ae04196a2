#pragma once

// What attention's two directions share: packed keys of a range, rows of queries, masked rows of scores.
// One head: E the head dim, padded to P = a multiple of 32 where rows are packed.

#include "model/kernels/kernels.h"
#include "model/kernels/tile.h"
#include "model/kernels/transpose.h"
#include "model/kernels/vector_math.h"

namespace ferro::kernels::FERRO_KERNEL_ISA {

FERRO_INLINE std::int64_t padded(std::int64_t n) {
  return (n + kPanelWidth - 1) / kPanelWidth * kPanelWidth;
}
FERRO_INLINE std::int64_t least(std::int64_t a, std::int64_t b) {
  return a < b ? a : b;
}
FERRO_INLINE std::int64_t most(std::int64_t a, std::int64_t b) {
  return a > b ? a : b;
}

/// Cuts 64-byte aligned pieces off a workspace; without one, only counts.
class SpaceTaker {
 public:
  explicit SpaceTaker(float* base) : base_(base) {}
  float* operator()(std::int64_t floats) {
    float* piece = base_ == nullptr ? nullptr : base_ + taken_;
    taken_ += (floats + 15) / 16 * 16;
    return piece;
  }
  std::int64_t taken() const { return taken_; }

 private:
  float* base_;
  std::int64_t taken_ = 0;
};

/// [rows, P] floats with `width` used and zeros after them: a right side for multiply().
static inline void pack_rows(const float* from, std::int64_t stride, std::int64_t rows, std::int64_t width,
                             float* to) {
  const std::int64_t to_stride = padded(width);
  for (std::int64_t r = 0; r < rows; ++r) {
    copy_floats(to + r * to_stride, from + r * stride, width);
    zero_floats(to + r * to_stride + width, to_stride - width);
  }
}

/// Keys as panels of 32 keys, [panels, E, 32], zeros after the last key up to a whole vector.
static inline void pack_keys(const float* keys, std::int64_t stride, std::int64_t count, std::int64_t width,
                             float* to) {
  for (std::int64_t first = 0; first < count; first += kPanelWidth)
    transpose(keys + first * stride, stride, least(kPanelWidth, count - first), width, to + first * width,
              kPanelWidth);
}

FERRO_INLINE std::int64_t whole_vecs(std::int64_t n) {
  return (n + kLanes - 1) / kLanes * kLanes;
}

/// scores[rows, count] of x rows by packed keys; writes up to whole_vecs(count) columns.
FERRO_INLINE void scores_of(const float* x, std::int64_t x_stride, std::int64_t rows, std::int64_t width,
                            const float* packed_keys, std::int64_t count, float* scores,
                            std::int64_t stride) {
  if (count == 0) return;
  multiply({x, x_stride, rows, width, packed_keys, kPanelWidth, width * kPanelWidth, whole_vecs(count),
            scores, stride, Into::kStore, nullptr});
}

/// A right side of value (or key) rows, in place where its width is a multiple of 32, else packed.
struct RightRows {
  const float* data;
  std::int64_t stride;
};
FERRO_INLINE RightRows right_rows(const float* rows, std::int64_t stride, std::int64_t count,
                                  std::int64_t width, float* space) {
  if (width % kPanelWidth == 0) return {rows, stride};
  pack_rows(rows, stride, count, width, space);
  return {space, padded(width)};
}

/// Number of own keys that query `query` of the span sees.
FERRO_INLINE std::int64_t own_keys(const SpanView& s, std::int64_t query, bool causal) {
  const std::int64_t all = s.key_end - s.key_begin;
  return causal ? most(0, all - (s.query_end - 1 - query)) : all;
}

/// y = x * scale over one row.
FERRO_INLINE void scaled_row(const float* x, float scale, std::int64_t n, float* y) {
  const Vec s = broadcast(scale);
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(y + i, load(x + i) * s);
  const int rest = static_cast<int>(n - i);
  if (rest > 0) store_first(y + i, rest, load_first(x + i, rest) * s);
}

FERRO_INLINE float row_max(const float* x, std::int64_t n) {
  const float lowest = -__builtin_inff();
  Vec best = broadcast(lowest);
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) best = max(best, load(x + i));
  const int rest = static_cast<int>(n - i);
  if (rest > 0) best = max(best, keep_first(load_first(x + i, rest), rest, lowest));
  return max_lanes(best);
}

/// x becomes e^(x - shift) for the first n, zero up to `end` (at most padded); returns the sum.
FERRO_INLINE float exp_row(float* x, std::int64_t n, std::int64_t end, float shift) {
  const Vec by = broadcast(shift);
  Vec sum = zero();
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const Vec e = exp(load(x + i) - by);
    sum = sum + e;
    store(x + i, e);
  }
  const int rest = static_cast<int>(n - i);
  if (rest > 0) {
    const Vec e = keep_first(exp(load_first(x + i, rest) - by), rest, 0.0f);
    sum = sum + e;
    store(x + i, e);
    i += kLanes;
  }
  for (; i < end; i += kLanes) store(x + i, zero());
  return sum_lanes(sum);
}

}  // namespace ferro::kernels::FERRO_KERNEL_ISA
