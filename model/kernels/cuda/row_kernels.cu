// Formulas (the CPU reference): row_kernels.h.
#include "model/kernels/cuda/row_kernels.h"

namespace ferro::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarp = 32;

/// Sum over the block's threads, in an order that depends on nothing but kThreads. Every thread gets it.
__device__ float block_sum(float value) {
  __shared__ float partial[kThreads / kWarp];
  for (int offset = kWarp / 2; offset > 0; offset /= 2) value += __shfl_down_sync(0xffffffffu, value, offset);
  if (threadIdx.x % kWarp == 0) partial[threadIdx.x / kWarp] = value;
  __syncthreads();
  float sum = 0;
  for (int warp = 0; warp < kThreads / kWarp; ++warp) sum += partial[warp];
  __syncthreads();
  return sum;
}

/// One block a row.
__global__ void rms_norm_forward_kernel(const float* x, const float* weight, float* y, float* inverse_rms,
                                        std::int64_t width, float eps) {
  const float* row = x + blockIdx.x * width;
  float squares = 0;
  for (std::int64_t i = threadIdx.x; i < width; i += kThreads) squares += row[i] * row[i];
  const float inverse = rsqrtf(block_sum(squares) / static_cast<float>(width) + eps);
  for (std::int64_t i = threadIdx.x; i < width; i += kThreads)
    y[blockIdx.x * width + i] = row[i] * inverse * weight[i];
  if (threadIdx.x == 0) inverse_rms[blockIdx.x] = inverse;
}

__global__ void rms_norm_grad_x_kernel(const float* x, const float* weight, const float* inverse_rms,
                                       const float* grad_y, float* grad_x, std::int64_t width) {
  const std::int64_t begin = blockIdx.x * width;
  float products = 0;
  for (std::int64_t i = threadIdx.x; i < width; i += kThreads)
    products += x[begin + i] * weight[i] * grad_y[begin + i];
  const float inverse = inverse_rms[blockIdx.x];
  const float scale = block_sum(products) * inverse * inverse / static_cast<float>(width);
  for (std::int64_t i = threadIdx.x; i < width; i += kThreads)
    grad_x[begin + i] = inverse * (weight[i] * grad_y[begin + i] - x[begin + i] * scale);
}

/// One thread a column, rows in order.
__global__ void rms_norm_grad_weight_kernel(const float* x, const float* inverse_rms, const float* grad_y,
                                            float* grad_weight, std::int64_t rows, std::int64_t width) {
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (column >= width) return;
  float sum = 0;
  for (std::int64_t row = 0; row < rows; ++row)
    sum += grad_y[row * width + column] * x[row * width + column] * inverse_rms[row];
  grad_weight[column] += sum;
}

__device__ float sigmoid(float value) {
  return 1.0f / (1.0f + expf(-value));
}

__global__ void swiglu_forward_kernel(const float* gate, const float* up, float* y, std::int64_t size) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i < size) y[i] = gate[i] * sigmoid(gate[i]) * up[i];
}

__global__ void swiglu_backward_kernel(const float* gate, const float* up, const float* grad_y,
                                       float* grad_gate, float* grad_up, std::int64_t size) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= size) return;
  const float a = gate[i], s = sigmoid(a), g = grad_y[i];
  grad_gate[i] = g * up[i] * s * (1.0f + a * (1.0f - s));
  grad_up[i] = g * a * s;
}

unsigned blocks_for(std::int64_t size) {
  return static_cast<unsigned>((size + kThreads - 1) / kThreads);
}

}  // namespace

cudaError_t rms_norm_forward(const float* x, const float* weight, float* y, float* inverse_rms,
                             std::int64_t rows, std::int64_t width, float eps, cudaStream_t stream) {
  if (rows == 0) return cudaSuccess;
  rms_norm_forward_kernel<<<static_cast<unsigned>(rows), kThreads, 0, stream>>>(x, weight, y, inverse_rms,
                                                                                width, eps);
  return cudaGetLastError();
}

cudaError_t rms_norm_backward(const float* x, const float* weight, const float* inverse_rms,
                              const float* grad_y, float* grad_x, float* grad_weight, std::int64_t rows,
                              std::int64_t width, cudaStream_t stream) {
  if (rows == 0) return cudaSuccess;
  rms_norm_grad_x_kernel<<<static_cast<unsigned>(rows), kThreads, 0, stream>>>(x, weight, inverse_rms, grad_y,
                                                                               grad_x, width);
  rms_norm_grad_weight_kernel<<<blocks_for(width), kThreads, 0, stream>>>(x, inverse_rms, grad_y, grad_weight,
                                                                          rows, width);
  return cudaGetLastError();
}

cudaError_t swiglu_forward(const float* gate, const float* up, float* y, std::int64_t size,
                           cudaStream_t stream) {
  if (size == 0) return cudaSuccess;
  swiglu_forward_kernel<<<blocks_for(size), kThreads, 0, stream>>>(gate, up, y, size);
  return cudaGetLastError();
}

cudaError_t swiglu_backward(const float* gate, const float* up, const float* grad_y, float* grad_gate,
                            float* grad_up, std::int64_t size, cudaStream_t stream) {
  if (size == 0) return cudaSuccess;
  swiglu_backward_kernel<<<blocks_for(size), kThreads, 0, stream>>>(gate, up, grad_y, grad_gate, grad_up,
                                                                    size);
  return cudaGetLastError();
}

}  // namespace ferro::cuda
