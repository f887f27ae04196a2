#pragma once

// Products of rows with weights in panels of 32 output columns, [panels, in, 32], a chunk of rows at a time.

#include "model/kernels/kernels.h"
#include "model/kernels/tile.h"

namespace ferro::kernels::FERRO_KERNEL_ISA {

/// One panel's block (64 KiB) and a row chunk stay in the second-level cache.
constexpr std::int64_t kDepthBlock = 512;
constexpr std::int64_t kRowChunk = 8 * kTileRows;
/// Not a power of two: rows of a tile fall into different cache sets.
constexpr std::int64_t kPackedStride = kDepthBlock + 16;

FERRO_INLINE std::int64_t smaller(std::int64_t a, std::int64_t b) {
  return a < b ? a : b;
}
FERRO_INLINE std::int64_t larger(std::int64_t a, std::int64_t b) {
  return a > b ? a : b;
}
FERRO_INLINE std::int64_t divide_up(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

struct Product {
  ConstMatrix x;
  const float* panels;
  std::int64_t panel_stride;
  const float* bias;
  Matrix y;
  bool accumulate;
  ConstMatrix residual;  ///< Added last; without data: none.
};

/// One row chunk by one range of panels. `packed` holds kRowChunk rows of a depth block, or is null where
/// rows of x need no packing.
static inline void product_part(const Product& p, std::int64_t row, std::int64_t rows,
                                std::int64_t panel_begin, std::int64_t panel_end, float* packed) {
  const std::int64_t first_col = panel_begin * kPanelWidth;
  const std::int64_t cols = smaller(panel_end * kPanelWidth, p.y.cols) - first_col;
  const bool pack = packed != nullptr && rows > kTileRows && panel_end - panel_begin > 2;
  std::int64_t depth_begin = 0;
  do {
    const std::int64_t depth = smaller(kDepthBlock, p.x.cols - depth_begin);
    TileProduct t{};
    t.x = p.x.data + row * p.x.stride + depth_begin;
    t.x_stride = p.x.stride;
    if (pack) {
      for (std::int64_t r = 0; r < rows; ++r)
        copy_floats(packed + r * kPackedStride, t.x + r * t.x_stride, depth);
      t.x = packed;
      t.x_stride = kPackedStride;
    }
    t.rows = rows;
    t.depth = depth;
    t.b_stride = kPanelWidth;
    t.panel_stride = p.panel_stride;
    t.y_stride = p.y.stride;
    t.into = depth_begin == 0 && !p.accumulate ? Into::kStore : Into::kAdd;
    const bool last = depth_begin + depth >= p.x.cols;
    // A low tile takes several panels at once, so that enough chains run side by side; high ones reuse a
    // panel over the rows.
    const std::int64_t step = rows <= kTileRows ? cols : kPanelWidth;
    for (std::int64_t col = 0; col < cols; col += step) {
      t.b = p.panels + (panel_begin + col / kPanelWidth) * p.panel_stride + depth_begin * kPanelWidth;
      t.cols = smaller(step, cols - col);
      t.y = p.y.data + row * p.y.stride + first_col + col;
      t.bias = last && p.bias != nullptr ? p.bias + first_col + col : nullptr;
      multiply(t);
    }
    depth_begin += depth;
  } while (depth_begin < p.x.cols);
  if (p.residual.data == nullptr) return;
  for (std::int64_t r = row; r < row + rows; ++r)
    add_floats(p.y.data + r * p.y.stride + first_col, p.residual.data + r * p.residual.stride + first_col,
               cols);
}

/// A parallel region costs some microseconds: small products are not worth it.
FERRO_INLINE int worthwhile_threads(std::int64_t rows, std::int64_t in, std::int64_t out, int threads) {
  return rows * in * out < 300000 ? 1 : threads;
}

/// Rows of a chunk: chunks of nearly equal size, a multiple of the threads; their number changes no bit of a
/// result.
FERRO_INLINE std::int64_t chunk_rows_of(std::int64_t rows, int threads) {
  const std::int64_t chunks = smaller(rows, divide_up(divide_up(rows, kRowChunk), threads) * threads);
  return divide_up(rows, larger(1, chunks));
}

}  // namespace ferro::kernels::FERRO_KERNEL_ISA
