#pragma once

#include <cstdint>

#include <cuda_runtime_api.h>

namespace ferro::cuda {

// Row operations in fp32 on device memory, row-major, enqueued on `stream`; launch errors are returned. Sums
// have a fixed order: the same bits on every run, and for a row whatever other rows there are.
// tests/model/row_kernels_gpu_test.cpp compares them with LibTorch where there is a GPU; the project's
// machines have none, so they compile and have not been run. CPU reference, x a row of width D, w the weight,
// g = dL/dy:
//
//   rms_norm          r = 1 / sqrt(sum_i x_i^2 / D + eps);  y_i = x_i r w_i
//   rms_norm backward dx_i = r (w_i g_i - x_i r^2 / D sum_j x_j w_j g_j);  dw_i += sum over rows of g_i x_i r
//   swiglu            s = 1 / (1 + exp(-a));  y = a s b   (a gate, b up, element by element)
//   swiglu backward   da = g b s (1 + a (1 - s));  db = g a s

/// x_ND, weight_D -> y_ND and inverse_rms_N (r above, kept for backward).
cudaError_t rms_norm_forward(const float* x, const float* weight, float* y, float* inverse_rms,
                             std::int64_t rows, std::int64_t width, float eps, cudaStream_t stream);

/// Writes grad_x_ND; adds to grad_weight_D.
cudaError_t rms_norm_backward(const float* x, const float* weight, const float* inverse_rms,
                              const float* grad_y, float* grad_x, float* grad_weight, std::int64_t rows,
                              std::int64_t width, cudaStream_t stream);

cudaError_t swiglu_forward(const float* gate, const float* up, float* y, std::int64_t size,
                           cudaStream_t stream);
cudaError_t swiglu_backward(const float* gate, const float* up, const float* grad_y, float* grad_gate,
                            float* grad_up, std::int64_t size, cudaStream_t stream);

}  // namespace ferro::cuda
