#pragma once

#include "model/kernels/kernels.h"
#include "model/kernels/simd.h"

namespace ferro::kernels::FERRO_KERNEL_ISA {

constexpr int kPanelVecs = static_cast<int>(kPanelWidth) / kLanes;

// A register tile: rows x vectors of accumulators that leave room for the broadcast and the panel's vectors.
#if defined(__AVX512F__)
constexpr int kTileRows = 14;
constexpr int tile_vecs(int rows) {
  return rows <= 3 ? 8 : rows == 4 ? 6 : rows <= 6 ? 4 : 2;
}
#elif defined(__AVX2__)
constexpr int kTileRows = 6;
constexpr int tile_vecs(int rows) {
  return rows == 1 ? 8 : rows <= 3 ? 4 : 2;
}
#else
constexpr int kTileRows = 4;
constexpr int tile_vecs(int) {
  return kPanelVecs;
}
#endif

enum class Into {
  kStore,     ///< y = sum
  kContinue,  ///< y is where the chain of multiply-adds starts
  kAdd,       ///< y = y + sum
};

constexpr std::int64_t kStepsAhead = 16;  ///< Steps of a panel that are asked for early.

/// y[rows, cols] of x[rows, depth] times a right side of panels: panel p, step k at b + p * panel_stride + k
/// * b_stride, 32 floats each. A row-major [depth, cols] matrix is panels too: b_stride its row stride,
/// panel_stride 32. Vectors of a panel are read whole.
struct TileProduct {
  const float* x;
  std::int64_t x_stride;  ///< x[r, k] at x[r * x_stride + k]; transposed: at x[k * x_stride + r].
  std::int64_t rows, depth;
  const float* b;
  std::int64_t b_stride, panel_stride;
  std::int64_t cols;
  float* y;
  std::int64_t y_stride;
  Into into = Into::kStore;
  const float* bias = nullptr;  ///< Added last.
};

template <int kRows, int kVecs, bool kTransposed>
FERRO_INLINE void register_tile(const float* x, std::int64_t x_stride, std::int64_t depth, const float* b,
                                std::int64_t b_stride, std::int64_t panel_stride, float* y,
                                std::int64_t y_stride, Into into, const float* bias) {
  Vec acc[kRows][kVecs];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
    for (int c = 0; c < kVecs; ++c)
      acc[r][c] = into == Into::kContinue ? load(y + r * y_stride + c * kLanes) : zero();
      // What the sums go to arrives while they are formed.
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
    for (int c = 0; c < kVecs; ++c) __builtin_prefetch(y + r * y_stride + c * kLanes, 1);
  for (std::int64_t k = 0; k < depth; ++k) {
    Vec right[kVecs];
#pragma GCC unroll 8
    for (int c = 0; c < kVecs; ++c)
      right[c] = load(b + (c / kPanelVecs) * panel_stride + (c % kPanelVecs) * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const Vec left = broadcast(kTransposed ? x[r] : x[r * x_stride]);
#pragma GCC unroll 8
      for (int c = 0; c < kVecs; ++c) acc[r][c] = fma(left, right[c], acc[r][c]);
    }
    // High tiles walk a panel that lies in a farther cache.
    if constexpr (!kTransposed && kVecs == kPanelVecs) {
#pragma GCC unroll 8
      for (int c = 0; c < kVecs; ++c) __builtin_prefetch(b + kStepsAhead * b_stride + c * kLanes);
    }
    b += b_stride;
    x += kTransposed ? x_stride : 1;
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
    for (int c = 0; c < kVecs; ++c) {
      float* out = y + r * y_stride + c * kLanes;
      Vec value = acc[r][c];
      if (into == Into::kAdd) value = load(out) + value;
      if (bias != nullptr) value = value + load(bias + c * kLanes);
      store(out, value);
    }
}

template <int kRows, int kVecs, bool kTransposed>
__attribute__((noinline)) static void tile(const float* x, const TileProduct& t, const float* b, float* y,
                                           const float* bias) {
  register_tile<kRows, kVecs, kTransposed>(x, t.x_stride, t.depth, b, t.b_stride, t.panel_stride, y,
                                           t.y_stride, t.into, bias);
}

/// The columns after the last whole vector: a vector computed beside y, and its valid part copied.
template <int kRows, bool kTransposed>
static void last_columns(const float* x, const TileProduct& t, const float* b, std::int64_t first, float* y) {
  alignas(64) float whole[kRows * kLanes], bias[kLanes];
  const int cols = static_cast<int>(t.cols - first);
  if (t.into != Into::kStore) {
    for (int r = 0; r < kRows; ++r) store(whole + r * kLanes, load_first(y + r * t.y_stride + first, cols));
  }
  if (t.bias != nullptr) store(bias, load_first(t.bias + first, cols));
  TileProduct beside = t;
  beside.y_stride = kLanes;
  tile<kRows, 1, kTransposed>(x, beside, b, whole, t.bias == nullptr ? nullptr : bias);
  for (int r = 0; r < kRows; ++r) store_first(y + r * t.y_stride + first, cols, load(whole + r * kLanes));
}

template <int kRows, bool kTransposed>
static void row_tile(const float* x, const TileProduct& t, float* y) {
  constexpr int kVecs = tile_vecs(kRows);
  constexpr int kStep = kVecs < kPanelVecs ? kVecs : kPanelVecs;
  constexpr std::int64_t kWide = static_cast<std::int64_t>(kVecs) * kLanes;
  const std::int64_t whole = t.cols / kPanelWidth * kPanelWidth;
  std::int64_t col = 0;
  if constexpr (kVecs > kPanelVecs)
    for (; col + kWide <= whole; col += kWide)
      tile<kRows, kVecs, kTransposed>(x, t, t.b + col / kPanelWidth * t.panel_stride, y + col,
                                      t.bias == nullptr ? nullptr : t.bias + col);
  for (; col < whole; col += kPanelWidth)
    for (int c = 0; c < kPanelVecs; c += kStep) {
      const std::int64_t at = col + static_cast<std::int64_t>(c) * kLanes;
      tile<kRows, kStep, kTransposed>(x, t, t.b + col / kPanelWidth * t.panel_stride + c * kLanes, y + at,
                                      t.bias == nullptr ? nullptr : t.bias + at);
    }
  const float* panel = t.b + col / kPanelWidth * t.panel_stride;
  for (; col + kLanes <= t.cols; col += kLanes, panel += kLanes)
    tile<kRows, 1, kTransposed>(x, t, panel, y + col, t.bias == nullptr ? nullptr : t.bias + col);
  if (col < t.cols) last_columns<kRows, kTransposed>(x, t, panel, col, y);
}

template <bool kTransposed>
static void row_tile_of(std::int64_t rows, const float* x, const TileProduct& t, float* y) {
  switch (rows) {
    case 1:
      return row_tile<1, kTransposed>(x, t, y);
    case 2:
      return row_tile<2, kTransposed>(x, t, y);
    case 3:
      return row_tile<3, kTransposed>(x, t, y);
    case 4:
      return row_tile<4, kTransposed>(x, t, y);
#if defined(__AVX2__)
    case 5:
      return row_tile<5, kTransposed>(x, t, y);
    case 6:
      return row_tile<6, kTransposed>(x, t, y);
#endif
#if defined(__AVX512F__)
    case 7:
      return row_tile<7, kTransposed>(x, t, y);
    case 8:
      return row_tile<8, kTransposed>(x, t, y);
    case 9:
      return row_tile<9, kTransposed>(x, t, y);
    case 10:
      return row_tile<10, kTransposed>(x, t, y);
    case 11:
      return row_tile<11, kTransposed>(x, t, y);
    case 12:
      return row_tile<12, kTransposed>(x, t, y);
    case 13:
      return row_tile<13, kTransposed>(x, t, y);
    case 14:
      return row_tile<14, kTransposed>(x, t, y);
#endif
    default:
      return;
  }
}

/// The whole product, row tiles of nearly equal height.
template <bool kTransposed = false>
static void multiply(const TileProduct& t) {
  const std::int64_t tiles = (t.rows + kTileRows - 1) / kTileRows;
  std::int64_t row = 0;
  for (std::int64_t i = 0; i < tiles; ++i) {
    const std::int64_t rows = (t.rows - row) / (tiles - i);
    row_tile_of<kTransposed>(rows, kTransposed ? t.x + row : t.x + row * t.x_stride, t,
                             t.y + row * t.y_stride);
    row += rows;
  }
}

}  // namespace ferro::kernels::FERRO_KERNEL_ISA
