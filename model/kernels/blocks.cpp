// Parts of a transformer block on a chunk of rows at a time: what one step leaves is in the cache for the
// next, and one parallel region serves them all.
#include <omp.h>

#include "model/kernels/isa.h"
#include "model/kernels/product.h"
#include "model/kernels/workspace.h"

namespace ferro::kernels::FERRO_KERNEL_ISA {
namespace {

/// Floats from row to row of a thread's own rows: whole vectors, and no power of two.
std::int64_t own_stride(std::int64_t cols) {
  return divide_up(cols, 16) * 16 + (cols % 1024 == 0 ? 16 : 32);
}

/// All of one layer for the first `rows` rows of `x`.
void apply_layer(const LinearPart& part, ConstMatrix x, std::int64_t rows, Matrix y, ConstMatrix residual,
                 float* packed) {
  const Product product{x, part.panels, part.in * kPanelWidth, part.bias, y, false, residual};
  product_part(product, 0, rows, 0, panel_count(part.out), packed);
}

ConstMatrix rows_from(ConstMatrix m, std::int64_t row, std::int64_t rows) {
  return {m.data + row * m.stride, rows, m.cols, m.stride};
}
Matrix rows_from(Matrix m, std::int64_t row, std::int64_t rows) {
  return {m.data + row * m.stride, rows, m.cols, m.stride};
}
ConstMatrix read_only(Matrix m) {
  return {m.data, m.rows, m.cols, m.stride};
}

void norm_rows(ConstMatrix x, const float* weight, float eps, Matrix y, float* inv_rms) {
  for (std::int64_t r = 0; r < x.rows; ++r) {
    const float inverse = rms_norm_row(x.data + r * x.stride, weight, eps, x.cols, y.data + r * y.stride);
    if (inv_rms != nullptr) inv_rms[r] = inverse;
  }
}

void normed_linears_forward(ConstMatrix x, const float* weight, float eps, const LinearPart* parts,
                            std::int64_t count, float* inv_rms, int threads) {
  if (x.rows == 0) return;
  const std::int64_t chunk = chunk_rows_of(x.rows, threads), chunks = divide_up(x.rows, chunk);
  const std::int64_t stride = own_stride(x.cols), each = kRowChunk * stride;
  float* spaces = workspace(threads * each);
#pragma omp parallel for num_threads(threads) schedule(dynamic) if (threads > 1)
  for (std::int64_t task = 0; task < chunks; ++task) {
    const std::int64_t row = task * chunk, rows = smaller(chunk, x.rows - row);
    const Matrix normed{spaces + omp_get_thread_num() * each, rows, x.cols, stride};
    norm_rows(rows_from(x, row, rows), weight, eps, normed, inv_rms == nullptr ? nullptr : inv_rms + row);
    for (std::int64_t i = 0; i < count; ++i)
      apply_layer(parts[i], read_only(normed), rows, rows_from(parts[i].y, row, rows), {}, nullptr);
  }
}

void gated_mlp_forward(ConstMatrix x, const float* weight, float eps, const LinearPart& gate,
                       const LinearPart& up, const LinearPart& down, float* inv_rms, int threads) {
  if (x.rows == 0) return;
  const std::int64_t chunk = chunk_rows_of(x.rows, threads), chunks = divide_up(x.rows, chunk);
  const std::int64_t narrow = own_stride(x.cols), wide = own_stride(gate.out);
  const std::int64_t each = kRowChunk * (narrow + 2 * wide);
  const bool keep = inv_rms != nullptr;
  float* spaces = workspace(threads * each);
#pragma omp parallel for num_threads(threads) schedule(dynamic) if (threads > 1)
  for (std::int64_t task = 0; task < chunks; ++task) {
    const std::int64_t row = task * chunk, rows = smaller(chunk, x.rows - row);
    float* space = spaces + omp_get_thread_num() * each;
    const Matrix normed{space, rows, x.cols, narrow};
    const Matrix hidden{space + kRowChunk * narrow, rows, gate.out, wide};
    const Matrix passing{hidden.data + kRowChunk * wide, rows, gate.out, wide};
    const Matrix gated = keep ? rows_from(gate.y, row, rows) : hidden;
    const Matrix upper = keep ? rows_from(up.y, row, rows) : passing;
    const ConstMatrix own = rows_from(x, row, rows);
    norm_rows(own, weight, eps, normed, keep ? inv_rms + row : nullptr);
    apply_layer(gate, read_only(normed), rows, gated, {}, nullptr);
    apply_layer(up, read_only(normed), rows, upper, {}, nullptr);
    for (std::int64_t r = 0; r < rows; ++r)
      swiglu_row(gated.data + r * gated.stride, upper.data + r * upper.stride, gate.out,
                 hidden.data + r * wide);
    apply_layer(down, read_only(hidden), rows, rows_from(down.y, row, rows), own, nullptr);
  }
}

}  // namespace

void add_blocks(Kernels& table) {
  table.normed_linears_forward = normed_linears_forward;
  table.gated_mlp_forward = gated_mlp_forward;
}

}  // namespace ferro::kernels::FERRO_KERNEL_ISA
