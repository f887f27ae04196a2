#pragma once

#include <ATen/Parallel.h>

#include "core/error.h"
#include "model/aten.h"
#include "model/kernels/kernels.h"

namespace ferro {

/// Whether the CPU kernels take this tensor.
inline bool on_kernels(const at::Tensor& x) {
  return x.device().is_cpu() && x.scalar_type() == at::kFloat;
}

inline int kernel_threads() {
  return at::get_num_threads();
}

/// The tensor as rows of its last dimension, adjacent within a row: a view where it already lies so, else a
/// copy.
inline at::Tensor as_rows(const at::Tensor& x) {
  FERRO_CHECK(x.dim() >= 1, "a scalar has no rows");
  if (x.dim() == 2 && (x.stride(1) == 1 || x.size(1) == 1)) return x;
  const std::int64_t cols = x.size(-1);
  return x.contiguous().view({cols == 0 ? 0 : x.numel() / cols, cols});
}

/// Views of what as_rows() returned (or of a fresh two-dimensional tensor).
inline kernels::ConstMatrix const_matrix(const at::Tensor& rows) {
  return {rows.const_data_ptr<float>(), rows.size(0), rows.size(1), rows.stride(0)};
}
inline kernels::Matrix matrix(const at::Tensor& rows) {
  return {rows.mutable_data_ptr<float>(), rows.size(0), rows.size(1), rows.stride(0)};
}

/// [N, H, E] with heads adjacent; rows may be apart (a slice of a wider matrix).
inline at::Tensor as_heads(const at::Tensor& x) {
  FERRO_CHECK(x.dim() == 3, "expected [rows, heads, head dim], got {} dimensions", x.dim());
  const bool adjacent = (x.stride(2) == 1 || x.size(2) == 1) && (x.stride(1) == x.size(2) || x.size(1) == 1);
  return adjacent ? x : x.contiguous();
}
inline kernels::ConstHeads const_heads(const at::Tensor& x) {
  return {x.const_data_ptr<float>(), x.stride(0)};
}

}  // namespace ferro
