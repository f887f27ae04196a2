// The linear layer's three products on weights in panels of 32 output columns, [panels, in, 32].
#include <omp.h>

#include "model/kernels/isa.h"
#include "model/kernels/tile.h"
#include "model/kernels/transpose.h"
#include "model/kernels/workspace.h"

namespace ferro::kernels::FERRO_KERNEL_ISA {
namespace {

constexpr std::int64_t kDepthBlock =
    512;  // One panel's block (64 KiB) and a row chunk stay in the second-level cache.
constexpr std::int64_t kRowChunk = 8 * kTileRows;
constexpr std::int64_t kPackedStride =
    kDepthBlock + 16;  // Not a power of two: rows of a tile fall into different cache sets.
constexpr std::int64_t kGradientRows = 256;  // Rows summed before they are added to a weight's gradient.
constexpr std::int64_t kTransposedFloats = std::int64_t{1} << 22;

std::int64_t smaller(std::int64_t a, std::int64_t b) {
  return a < b ? a : b;
}
std::int64_t larger(std::int64_t a, std::int64_t b) {
  return a > b ? a : b;
}
std::int64_t divide_up(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

struct Product {
  ConstMatrix x;
  const float* panels;
  std::int64_t panel_stride;
  const float* bias;
  Matrix y;
  bool accumulate;
};

/// One row chunk by one range of panels. `packed` holds kRowChunk rows of a depth block.
void product_part(const Product& p, std::int64_t row, std::int64_t rows, std::int64_t panel_begin,
                  std::int64_t panel_end, float* packed) {
  const std::int64_t first_col = panel_begin * kPanelWidth;
  const std::int64_t cols = smaller(panel_end * kPanelWidth, p.y.cols) - first_col;
  const bool pack = rows > kTileRows && panel_end - panel_begin > 2;
  std::int64_t depth_begin = 0;
  do {
    const std::int64_t depth = smaller(kDepthBlock, p.x.cols - depth_begin);
    TileProduct t{};
    t.x = p.x.data + row * p.x.stride + depth_begin;
    t.x_stride = p.x.stride;
    if (pack) {
      for (std::int64_t r = 0; r < rows; ++r)
        std::memcpy(packed + r * kPackedStride, t.x + r * t.x_stride,
                    static_cast<std::size_t>(depth) * sizeof(float));
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
}

void product(const Product& p, float* packed, int threads) {
  const std::int64_t panels = panel_count(p.y.cols);
  const std::int64_t row_chunks = divide_up(p.x.rows, kRowChunk);
  const std::int64_t wanted = threads == 1 ? 1 : divide_up(4 * threads, row_chunks);
  const std::int64_t panel_step = larger(divide_up(panels, wanted), smaller(panels, 4));
  const std::int64_t panel_chunks = divide_up(panels, panel_step);
#pragma omp parallel for num_threads(threads) schedule(dynamic) if (threads > 1)
  for (std::int64_t task = 0; task < row_chunks * panel_chunks; ++task) {
    const std::int64_t row = task / panel_chunks * kRowChunk, panel = task % panel_chunks * panel_step;
    product_part(p, row, smaller(kRowChunk, p.x.rows - row), panel, smaller(panel + panel_step, panels),
                 packed + omp_get_thread_num() * kRowChunk * kPackedStride);
  }
}

/// A parallel region costs some microseconds: small products are not worth it.
int worthwhile_threads(std::int64_t rows, std::int64_t in, std::int64_t out, int threads) {
  return rows * in * out < 300000 ? 1 : threads;
}

void linear_forward(ConstMatrix x, const float* panels, const float* bias, Matrix y, int threads) {
  if (x.rows == 0 || y.cols == 0) return;
  threads = worthwhile_threads(x.rows, x.cols, y.cols, threads);
  float* packed = workspace(threads * kRowChunk * kPackedStride);
  product({x, panels, x.cols * kPanelWidth, bias, y, false}, packed, threads);
}

void linear_backward_input(ConstMatrix dy, const float* panels, Matrix dx, int threads) {
  if (dy.rows == 0 || dx.cols == 0) return;
  threads = worthwhile_threads(dy.rows, dx.cols, dy.cols, threads);
  // W^T in panels of 32 inputs, [panels of inputs, out, 32], as many outputs at a time as the workspace
  // holds.
  const std::int64_t in = dx.cols, in_panels = panel_count(in);
  const std::int64_t block = smaller(divide_up(dy.cols, kDepthBlock),
                                     larger(1, kTransposedFloats / (in_panels * kPanelWidth * kDepthBlock))) *
                             kDepthBlock;
  const std::int64_t panel_stride = smaller(block, dy.cols) * kPanelWidth;
  float* packed = workspace(threads * kRowChunk * kPackedStride + in_panels * block * kPanelWidth);
  float* turned = packed + threads * kRowChunk * kPackedStride;
  for (std::int64_t first = 0; first < dy.cols; first += block) {
    const std::int64_t outs = smaller(block, dy.cols - first);
#pragma omp parallel for num_threads(threads) schedule(dynamic) if (threads > 1)
    for (std::int64_t tile = 0; tile < in_panels; ++tile) {
      const std::int64_t begin = tile * kPanelWidth, ins = smaller(kPanelWidth, in - begin);
      float* to = turned + tile * panel_stride;
      if (ins < kPanelWidth) std::memset(to, 0, static_cast<std::size_t>(outs * kPanelWidth) * sizeof(float));
      for (std::int64_t out = 0; out < outs; out += kPanelWidth)
        transpose(panels + (first + out) * in + begin * kPanelWidth, kPanelWidth, ins,
                  smaller(kPanelWidth, outs - out), to + out * kPanelWidth, kPanelWidth);
    }
    product({{dy.data + first, dy.rows, outs, dy.stride}, turned, panel_stride, nullptr, dx, first > 0},
            packed, threads);
  }
}

void add_column_sums(const float* block, std::int64_t rows, float* to, std::int64_t cols) {
  alignas(64) float sums[kPanelWidth] = {};
  for (std::int64_t r = 0; r < rows; ++r)
    for (int c = 0; c < kPanelVecs; ++c)
      store(sums + c * kLanes, load(sums + c * kLanes) + load(block + r * kPanelWidth + c * kLanes));
  for (std::int64_t c = 0; c < cols; ++c) to[c] += sums[c];
}

void linear_backward_weight(ConstMatrix x, ConstMatrix dy, float* dpanels, float* dbias, int threads) {
  if (x.rows == 0 || dy.cols == 0) return;
  threads = worthwhile_threads(x.rows, x.cols, dy.cols, threads);
  const std::int64_t panels = panel_count(dy.cols);
  const std::int64_t in_chunks =
      threads == 1 ? 1 : smaller(divide_up(4 * threads, panels), divide_up(x.cols, 4 * kTileRows));
  const std::int64_t in_step = larger(1, divide_up(x.cols, larger(1, in_chunks)));
  constexpr std::int64_t kBlockFloats = kGradientRows * kPanelWidth;
  float* blocks = workspace(threads * kBlockFloats);
#pragma omp parallel for num_threads(threads) schedule(dynamic) if (threads > 1)
  for (std::int64_t task = 0; task < panels * larger(1, in_chunks); ++task) {
    const std::int64_t panel = task / larger(1, in_chunks), in_begin = task % larger(1, in_chunks) * in_step;
    const std::int64_t col = panel * kPanelWidth, cols = smaller(kPanelWidth, dy.cols - col);
    float* block = blocks + omp_get_thread_num() * kBlockFloats;
    if (cols < kPanelWidth) std::memset(block, 0, kBlockFloats * sizeof(float));
    for (std::int64_t row = 0; row < x.rows; row += kGradientRows) {
      const std::int64_t rows = smaller(kGradientRows, x.rows - row);
      for (std::int64_t r = 0; r < rows; ++r)
        std::memcpy(block + r * kPanelWidth, dy.data + (row + r) * dy.stride + col,
                    static_cast<std::size_t>(cols) * sizeof(float));
      if (dbias != nullptr && in_begin == 0) add_column_sums(block, rows, dbias + col, cols);
      const std::int64_t ins = smaller(in_step, x.cols - in_begin);
      if (ins <= 0) continue;
      multiply<true>({x.data + row * x.stride + in_begin, x.stride, ins, rows, block, kPanelWidth, 0,
                      kPanelWidth, dpanels + (panel * x.cols + in_begin) * kPanelWidth, kPanelWidth,
                      Into::kAdd, nullptr});
    }
  }
}

}  // namespace

void add_gemm(Kernels& table) {
  table.linear_forward = linear_forward;
  table.linear_backward_input = linear_backward_input;
  table.linear_backward_weight = linear_backward_weight;
}

}  // namespace ferro::kernels::FERRO_KERNEL_ISA
