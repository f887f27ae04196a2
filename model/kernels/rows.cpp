// Row kernels: norm, gates, rotary, embedding rows.
#include <omp.h>

#include "model/kernels/isa.h"
#include "model/kernels/vector_math.h"
#include "model/kernels/workspace.h"

namespace ferro::kernels::FERRO_KERNEL_ISA {
namespace {

constexpr std::int64_t kRowsPerBlock =
    64;  // Rows whose share of a norm weight's gradient is summed before it joins the others.

/// Threads for `floats` elements of row work.
int row_threads(std::int64_t floats, int threads) {
  return floats < 32768 ? 1 : threads;
}

/// Calls body(i, n) for each full vector (n = kLanes) and once for the rest.
template <class Body>
FERRO_INLINE void each_vec(std::int64_t count, Body body) {
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) body(i, kLanes);
  if (i < count) body(i, static_cast<int>(count - i));
}
FERRO_INLINE Vec get(const float* p, int n) {
  return n == kLanes ? load(p) : load_first(p, n);
}
FERRO_INLINE void put(float* p, int n, Vec v) {
  n == kLanes ? store(p, v) : store_first(p, n, v);
}

void rms_norm_forward(ConstMatrix x, const float* weight, float eps, Matrix y, float* inv_rms, int threads) {
  threads = row_threads(x.rows * x.cols, threads);
#pragma omp parallel for num_threads(threads) if (threads > 1)
  for (std::int64_t row = 0; row < x.rows; ++row) {
    const float inverse = rms_norm_row(x.data + row * x.stride, weight, eps, x.cols, y.data + row * y.stride);
    if (inv_rms != nullptr) inv_rms[row] = inverse;
  }
}

/// With r = inv_rms and w' = dy * weight: dx = r w' - x r^3 mean(w' x); dweight = sum over rows of dy x r.
void rms_norm_backward(ConstMatrix x, const float* weight, const float* inv_rms, ConstMatrix dy,
                       ConstMatrix residual, Matrix dx, float* dweight, int threads) {
  threads = row_threads(x.rows * x.cols, threads);
  const std::int64_t blocks = (x.rows + kRowsPerBlock - 1) / kRowsPerBlock;
  float* sums = dweight == nullptr ? nullptr : workspace(blocks * x.cols);
#pragma omp parallel for num_threads(threads) if (threads > 1)
  for (std::int64_t block = 0; block < blocks; ++block) {
    float* sum = sums == nullptr ? nullptr : sums + block * x.cols;
    if (sum != nullptr) zero_floats(sum, x.cols);
    const std::int64_t end = (block + 1) * kRowsPerBlock < x.rows ? (block + 1) * kRowsPerBlock : x.rows;
    for (std::int64_t row = block * kRowsPerBlock; row < end; ++row) {
      const float *in = x.data + row * x.stride, *grad = dy.data + row * dy.stride;
      const float* beside = residual.data == nullptr ? nullptr : residual.data + row * residual.stride;
      float* out = dx.data + row * dx.stride;
      const float r = inv_rms[row];
      Vec inner = zero();
      each_vec(x.cols, [&](std::int64_t i, int n) {
        inner = fma(get(grad + i, n) * get(weight + i, n), get(in + i, n), inner);
      });
      const Vec along = broadcast(sum_lanes(inner) / static_cast<float>(x.cols) * r * r * r),
                by = broadcast(r);
      each_vec(x.cols, [&](std::int64_t i, int n) {
        const Vec v = get(in + i, n), g = get(grad + i, n);
        const Vec d = fnma(v, along, g * get(weight + i, n) * by);
        put(out + i, n, beside == nullptr ? d : get(beside + i, n) + d);
        if (sum != nullptr) put(sum + i, n, fma(g * v, by, get(sum + i, n)));
      });
    }
  }
  if (dweight == nullptr) return;
  for (std::int64_t block = 0; block < blocks; ++block)
    each_vec(x.cols, [&](std::int64_t i, int n) {
      put(dweight + i, n, get(dweight + i, n) + get(sums + block * x.cols + i, n));
    });
}

void swiglu_forward(ConstMatrix gate, ConstMatrix up, Matrix y, int threads) {
  threads = row_threads(y.rows * y.cols, threads);
#pragma omp parallel for num_threads(threads) if (threads > 1)
  for (std::int64_t row = 0; row < y.rows; ++row)
    swiglu_row(gate.data + row * gate.stride, up.data + row * up.stride, y.cols, y.data + row * y.stride);
}

/// silu'(g) = s + g s (1 - s), s = sigmoid(g).
void swiglu_backward(ConstMatrix gate, ConstMatrix up, ConstMatrix dy, Matrix dgate, Matrix dup, Matrix y,
                     int threads) {
  threads = row_threads(dy.rows * dy.cols, threads);
#pragma omp parallel for num_threads(threads) if (threads > 1)
  for (std::int64_t row = 0; row < dy.rows; ++row) {
    const float *g = gate.data + row * gate.stride, *u = up.data + row * up.stride,
                *d = dy.data + row * dy.stride;
    float *dg = dgate.data + row * dgate.stride, *du = dup.data + row * dup.stride,
          *again = y.data == nullptr ? nullptr : y.data + row * y.stride;
    each_vec(dy.cols, [&](std::int64_t i, int n) {
      const Vec v = get(g + i, n), w = get(u + i, n), grad = get(d + i, n), s = sigmoid(v), silu = v * s;
      put(dg + i, n, grad * w * fma(silu, broadcast(1.0f) - s, s));
      put(du + i, n, grad * silu);
      if (again != nullptr) put(again + i, n, silu * w);
    });
  }
}

/// The normal distribution's cumulative function, (1 + erf(x / sqrt 2)) / 2.
FERRO_INLINE Vec normal_cdf(Vec x) {
  return fma(erf(x * broadcast(0.707106781f)), broadcast(0.5f), broadcast(0.5f));
}

void gelu_forward(ConstMatrix x, Matrix y, int threads) {
  threads = row_threads(x.rows * x.cols, threads);
#pragma omp parallel for num_threads(threads) if (threads > 1)
  for (std::int64_t row = 0; row < x.rows; ++row) {
    const float* in = x.data + row * x.stride;
    float* out = y.data + row * y.stride;
    each_vec(x.cols, [&](std::int64_t i, int n) {
      const Vec v = get(in + i, n);
      put(out + i, n, v * normal_cdf(v));
    });
  }
}

/// gelu'(x) = cdf(x) + x e^(-x^2 / 2) / sqrt(2 pi).
void gelu_backward(ConstMatrix x, ConstMatrix dy, Matrix dx, int threads) {
  threads = row_threads(x.rows * x.cols, threads);
#pragma omp parallel for num_threads(threads) if (threads > 1)
  for (std::int64_t row = 0; row < x.rows; ++row) {
    const float *in = x.data + row * x.stride, *grad = dy.data + row * dy.stride;
    float* out = dx.data + row * dx.stride;
    each_vec(x.cols, [&](std::int64_t i, int n) {
      const Vec v = get(in + i, n);
      const Vec density = exp(v * v * broadcast(-0.5f)) * broadcast(0.398942280f);
      put(out + i, n, get(grad + i, n) * fma(v, density, normal_cdf(v)));
    });
  }
}

void rotary(ConstHeads x, std::int64_t rows, std::int64_t heads, std::int64_t head_dim, const float* cos,
            const float* sin, bool inverse, float* y, std::int64_t y_stride, int threads) {
  threads = row_threads(rows * heads * head_dim, threads);
  const std::int64_t half = head_dim / 2;
  const Vec direction = broadcast(inverse ? -1.0f : 1.0f);
#pragma omp parallel for num_threads(threads) if (threads > 1)
  for (std::int64_t row = 0; row < rows; ++row)
    for (std::int64_t head = 0; head < heads; ++head) {
      const float *first = x.data + row * x.stride + head * head_dim, *second = first + half;
      float* out = y + row * y_stride + head * head_dim;
      each_vec(half, [&](std::int64_t i, int n) {
        const Vec c = get(cos + row * head_dim + i, n), s = get(sin + row * head_dim + i, n) * direction;
        const Vec a = get(first + i, n), b = get(second + i, n);
        put(out + i, n, fnma(b, s, a * c));
        put(out + half + i, n, fma(a, s, b * c));
      });
    }
}

void gather_rows(const std::int32_t* ids, const float* panels, Matrix y, int threads) {
  threads = row_threads(y.rows * y.cols, threads);
#pragma omp parallel for num_threads(threads) if (threads > 1)
  for (std::int64_t row = 0; row < y.rows; ++row) {
    const float* from = panels + ids[row] / kPanelWidth * y.cols * kPanelWidth + ids[row] % kPanelWidth;
    float* out = y.data + row * y.stride;
    for (std::int64_t i = 0; i < y.cols; ++i) out[i] = from[i * kPanelWidth];
  }
}

void scatter_add_rows(const std::int32_t* ids, const std::uint8_t* skip, ConstMatrix dy, float* dpanels,
                      int threads) {
  threads = row_threads(dy.rows * dy.cols, threads);
  // Each thread owns a range of columns and walks all rows: no two write one element, and the order is that
  // of the rows.
#pragma omp parallel for num_threads(threads) if (threads > 1)
  for (std::int64_t part = 0; part < threads; ++part) {
    const std::int64_t begin = dy.cols * part / threads, end = dy.cols * (part + 1) / threads;
    for (std::int64_t row = 0; row < dy.rows; ++row) {
      if (skip != nullptr && skip[row] != 0) continue;
      float* to = dpanels + ids[row] / kPanelWidth * dy.cols * kPanelWidth + ids[row] % kPanelWidth;
      const float* grad = dy.data + row * dy.stride;
      for (std::int64_t i = begin; i < end; ++i) to[i * kPanelWidth] += grad[i];
    }
  }
}

void exp_all(const float* x, float* y, std::int64_t n) {
  each_vec(n, [&](std::int64_t i, int count) { put(y + i, count, exp(get(x + i, count))); });
}
void erf_all(const float* x, float* y, std::int64_t n) {
  each_vec(n, [&](std::int64_t i, int count) { put(y + i, count, erf(get(x + i, count))); });
}

}  // namespace

float rms_norm_row(const float* x, const float* weight, float eps, std::int64_t n, float* y) {
  Vec squares = zero();
  each_vec(n, [&](std::int64_t i, int lanes) {
    const Vec v = get(x + i, lanes);
    squares = fma(v, v, squares);
  });
  const float inverse = 1.0f / __builtin_sqrtf(sum_lanes(squares) / static_cast<float>(n) + eps);
  const Vec by = broadcast(inverse);
  each_vec(n, [&](std::int64_t i, int lanes) {
    put(y + i, lanes, get(x + i, lanes) * by * get(weight + i, lanes));
  });
  return inverse;
}

void swiglu_row(const float* gate, const float* up, std::int64_t n, float* y) {
  each_vec(n, [&](std::int64_t i, int lanes) {
    const Vec v = get(gate + i, lanes);
    put(y + i, lanes, v * sigmoid(v) * get(up + i, lanes));
  });
}

void add_rows(Kernels& table) {
  table.rms_norm_forward = rms_norm_forward;
  table.rms_norm_backward = rms_norm_backward;
  table.swiglu_forward = swiglu_forward;
  table.swiglu_backward = swiglu_backward;
  table.gelu_forward = gelu_forward;
  table.gelu_backward = gelu_backward;
  table.rotary = rotary;
  table.gather_rows = gather_rows;
  table.scatter_add_rows = scatter_add_rows;
  table.exp = exp_all;
  table.erf = erf_all;
}

}  // namespace ferro::kernels::FERRO_KERNEL_ISA
