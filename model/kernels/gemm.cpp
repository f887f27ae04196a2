// The linear layer's three products on weights in panels of 32 output columns, [panels, in, 32].
#include <omp.h>

#include "model/kernels/isa.h"
#include "model/kernels/product.h"
#include "model/kernels/transpose.h"
#include "model/kernels/workspace.h"

namespace ferro::kernels::FERRO_KERNEL_ISA {
namespace {

constexpr std::int64_t kGradientRows = 256;  // Rows summed before they are added to a weight's gradient.
constexpr std::int64_t kTransposedFloats = std::int64_t{1} << 22;

void product(const Product& p, float* packed, int threads) {
  const std::int64_t panels = panel_count(p.y.cols);
  const std::int64_t chunk_rows = chunk_rows_of(p.x.rows, threads);
  const std::int64_t row_chunks = divide_up(p.x.rows, chunk_rows);
  const std::int64_t wanted = threads == 1 ? 1 : divide_up(4 * threads, row_chunks);
  const std::int64_t panel_step = larger(divide_up(panels, wanted), smaller(panels, 4));
  const std::int64_t panel_chunks = divide_up(panels, panel_step);
#pragma omp parallel for num_threads(threads) schedule(dynamic) if (threads > 1)
  for (std::int64_t task = 0; task < row_chunks * panel_chunks; ++task) {
    const std::int64_t row = task / panel_chunks * chunk_rows, panel = task % panel_chunks * panel_step;
    if (row >= p.x.rows) continue;
    product_part(p, row, smaller(chunk_rows, p.x.rows - row), panel, smaller(panel + panel_step, panels),
                 packed + omp_get_thread_num() * kRowChunk * kPackedStride);
  }
}

void linear_forward(ConstMatrix x, const float* panels, const float* bias, ConstMatrix residual, Matrix y,
                    int threads) {
  if (x.rows == 0 || y.cols == 0) return;
  threads = worthwhile_threads(x.rows, x.cols, y.cols, threads);
  float* packed = workspace(threads * kRowChunk * kPackedStride);
  product({x, panels, x.cols * kPanelWidth, bias, y, false, residual}, packed, threads);
}

void linear_backward_input(ConstMatrix dy, const float* panels, Matrix dx, bool accumulate, int threads) {
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
      for (std::int64_t out = 0; out < outs; out += kPanelWidth)
        transpose(panels + (first + out) * in + begin * kPanelWidth, kPanelWidth, ins,
                  smaller(kPanelWidth, outs - out), to + out * kPanelWidth, kPanelWidth);
    }
    product({{dy.data + first, dy.rows, outs, dy.stride},
             turned,
             panel_stride,
             nullptr,
             dx,
             accumulate || first > 0,
             {}},
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

/// What one thread needs for a block of rows: columns of dy as panels [panels, rows, 32], columns of x as
/// strips [strips, rows, kLanes].
constexpr std::int64_t kChunkPanels = 12;
constexpr std::int64_t kChunkStrips = 24;
// From one panel or strip to the next: not a power of two, so that they fall into different cache sets.
constexpr std::int64_t kPackedPanel = (kGradientRows + 1) * kPanelWidth;
constexpr std::int64_t kPackedStrip = (kGradientRows + 1) * kLanes;
constexpr std::int64_t kBlockFloats = kChunkPanels * kPackedPanel + kChunkStrips * kPackedStrip;

struct WeightGradient {
  ConstMatrix x, dy;
  float *dpanels, *dbias;
};

// A few rows at a time: rows are read in order, and what is written lies together.
constexpr std::int64_t kPackRows = 16;

void pack_panels(const ConstMatrix& dy, std::int64_t row, std::int64_t rows, std::int64_t panel,
                 std::int64_t panel_end, float* to) {
  for (std::int64_t begin = 0; begin < rows; begin += kPackRows) {
    const std::int64_t end = smaller(rows, begin + kPackRows);
    for (std::int64_t p = panel; p < panel_end; ++p) {
      const float* from = dy.data + (row + begin) * dy.stride + p * kPanelWidth;
      float* out = to + (p - panel) * kPackedPanel + begin * kPanelWidth;
      const std::int64_t cols = smaller(kPanelWidth, dy.cols - p * kPanelWidth);
      for (std::int64_t r = begin; r < end; ++r, from += dy.stride, out += kPanelWidth) {
        if (cols == kPanelWidth) {
          for (int c = 0; c < kPanelVecs; ++c) store(out + c * kLanes, load(from + c * kLanes));
        } else {
          copy_floats(out, from, cols);
          zero_floats(out + cols, kPanelWidth - cols);
        }
      }
    }
  }
}

void pack_strips(const ConstMatrix& x, std::int64_t row, std::int64_t rows, std::int64_t first,
                 std::int64_t end, std::int64_t width, float* to) {
  for (std::int64_t begin = 0; begin < rows; begin += kPackRows) {
    const std::int64_t row_end = smaller(rows, begin + kPackRows);
    float* strip = to + begin * kLanes;
    for (std::int64_t in = first; in < end; in += width, strip += kPackedStrip) {
      const float* from = x.data + (row + begin) * x.stride + in;
      float* out = strip;
      if (in + kLanes <= x.cols) {  // A whole vector: what lies beyond the strip's width is not used.
        for (std::int64_t r = begin; r < row_end; ++r, from += x.stride, out += kLanes)
          store(out, load(from));
      } else {
        const int count = static_cast<int>(smaller(width, end - in));
        for (std::int64_t r = begin; r < row_end; ++r, from += x.stride, out += kLanes)
          store(out, load_first(from, count));
      }
    }
  }
}

/// Panels [panel, panel_end) by inputs [first, end) in strips of `width`, over all rows.
void weight_gradient_part(const WeightGradient& g, std::int64_t panel, std::int64_t panel_end,
                          std::int64_t first, std::int64_t end, std::int64_t width, float* space) {
  float *panels = space, *strips = space + kChunkPanels * kPackedPanel;
  for (std::int64_t row = 0; row < g.x.rows; row += kGradientRows) {
    const std::int64_t rows = smaller(kGradientRows, g.x.rows - row);
    pack_strips(g.x, row, rows, first, end, width, strips);
    pack_panels(g.dy, row, rows, panel, panel_end, panels);
    for (std::int64_t p = panel; p < panel_end; ++p) {
      float* right = panels + (p - panel) * kPackedPanel;
      const std::int64_t col = p * kPanelWidth;
      if (g.dbias != nullptr && first == 0)
        add_column_sums(right, rows, g.dbias + col, smaller(kPanelWidth, g.dy.cols - col));
      for (std::int64_t in = first, strip = 0; in < end; in += width, ++strip)
        multiply<true>({strips + strip * kPackedStrip, kLanes, smaller(width, end - in), rows, right,
                        kPanelWidth, 0, kPanelWidth, g.dpanels + (p * g.x.cols + in) * kPanelWidth,
                        kPanelWidth, Into::kAdd, nullptr});
    }
  }
}

/// Tasks take as many panels and strips as the workspace holds, in parts of nearly equal size; few tasks are
/// a multiple of the threads. More would pack more often.
struct WeightGrid {
  std::int64_t panel_chunks, strip_chunks;
};
WeightGrid weight_grid(std::int64_t panels, std::int64_t strips, int threads) {
  WeightGrid grid{divide_up(panels, kChunkPanels), divide_up(strips, kChunkStrips)};
  if (threads == 1) return grid;
  const auto tasks = [&] { return grid.panel_chunks * grid.strip_chunks; };
  while (tasks() < 8 * threads && tasks() % threads != 0 &&
         (grid.panel_chunks < panels || grid.strip_chunks < strips)) {
    const bool by_panels =
        grid.strip_chunks == strips ||
        (grid.panel_chunks < panels && 2 * panels * grid.strip_chunks >= strips * grid.panel_chunks);
    ++(by_panels ? grid.panel_chunks : grid.strip_chunks);
  }
  return grid;
}

void linear_backward_weight(ConstMatrix x, ConstMatrix dy, float* dpanels, float* dbias, int threads) {
  if (x.rows == 0 || dy.cols == 0) return;
  threads = worthwhile_threads(x.rows, x.cols, dy.cols, threads);
  const WeightGradient g{x, dy, dpanels, dbias};
  const std::int64_t panels = panel_count(dy.cols), strips = larger(1, divide_up(x.cols, kTileRows));
  const std::int64_t width = larger(1, divide_up(x.cols, strips));
  const WeightGrid grid = weight_grid(panels, strips, threads);
  float* spaces = workspace(threads * kBlockFloats);
#pragma omp parallel for num_threads(threads) schedule(dynamic) if (threads > 1)
  for (std::int64_t task = 0; task < grid.panel_chunks * grid.strip_chunks; ++task) {
    const std::int64_t i = task / grid.strip_chunks, j = task % grid.strip_chunks;
    const std::int64_t first = smaller(x.cols, j * strips / grid.strip_chunks * width),
                       end = smaller(x.cols, (j + 1) * strips / grid.strip_chunks * width);
    if (first == end && j > 0) continue;
    weight_gradient_part(g, i * panels / grid.panel_chunks, (i + 1) * panels / grid.panel_chunks, first, end,
                         width, spaces + omp_get_thread_num() * kBlockFloats);
  }
}

}  // namespace

void add_gemm(Kernels& table) {
  table.linear_forward = linear_forward;
  table.linear_backward_input = linear_backward_input;
  table.linear_backward_weight = linear_backward_weight;
}

}  // namespace ferro::kernels::FERRO_KERNEL_ISA
