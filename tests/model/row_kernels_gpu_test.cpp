#include <iostream>

#include <catch2/catch.hpp>

#include "model/aten.h"
#include "model/kernels/cuda/row_kernels.h"

namespace ferro {
namespace {

constexpr double kEps = 1e-6;

bool gpu_absent() {
  int devices = 0;
  const bool absent = cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0;
  if (absent) std::cout << "FERRO_SKIPPED: a CUDA device is absent\n";
  return absent;
}

at::Tensor random_on_gpu(at::IntArrayRef shape) {
  return at::randn(shape, at::kFloat).to(at::kCUDA);
}

/// fp32 sums of a few hundred terms against the same in double.
void expect_close(const at::Tensor& got, const at::Tensor& expected) {
  CHECK((got.to(at::kDouble) - expected).abs().max().item<double>() <=
        2e-5 * expected.abs().max().item<double>());
}

at::Tensor leaf(const at::Tensor& tensor) {
  return tensor.to(at::kDouble).requires_grad_(true);
}

TEST_CASE("rms_norm and its gradients on the GPU equal autograd's in double precision") {
  if (gpu_absent()) return;
  const std::int64_t rows = 37, width = 300;
  const at::Tensor x = random_on_gpu({rows, width}), weight = random_on_gpu({width}),
                   grad = random_on_gpu({rows, width});
  const at::Tensor y = at::empty_like(x), inverse = at::empty({rows}, x.options()),
                   grad_x = at::empty_like(x);
  const at::Tensor grad_weight = at::zeros_like(weight);
  REQUIRE(cuda::rms_norm_forward(x.data_ptr<float>(), weight.data_ptr<float>(), y.data_ptr<float>(),
                                 inverse.data_ptr<float>(), rows, width, static_cast<float>(kEps),
                                 nullptr) == cudaSuccess);
  REQUIRE(cuda::rms_norm_backward(x.data_ptr<float>(), weight.data_ptr<float>(), inverse.data_ptr<float>(),
                                  grad.data_ptr<float>(), grad_x.data_ptr<float>(),
                                  grad_weight.data_ptr<float>(), rows, width, nullptr) == cudaSuccess);
  const at::Tensor x_leaf = leaf(x), weight_leaf = leaf(weight);
  const at::Tensor expected = x_leaf * at::rsqrt(x_leaf.pow(2).mean(-1, true) + kEps) * weight_leaf;
  expected.backward(grad.to(at::kDouble));
  expect_close(y, expected.detach());
  expect_close(grad_x, x_leaf.grad());
  expect_close(grad_weight, weight_leaf.grad());
}

TEST_CASE("swiglu and its gradients on the GPU equal autograd's in double precision") {
  if (gpu_absent()) return;
  const std::int64_t size = 5003;
  const at::Tensor gate = random_on_gpu({size}), up = random_on_gpu({size}), grad = random_on_gpu({size});
  const at::Tensor y = at::empty_like(gate), grad_gate = at::empty_like(gate), grad_up = at::empty_like(gate);
  REQUIRE(cuda::swiglu_forward(gate.data_ptr<float>(), up.data_ptr<float>(), y.data_ptr<float>(), size,
                               nullptr) == cudaSuccess);
  REQUIRE(cuda::swiglu_backward(gate.data_ptr<float>(), up.data_ptr<float>(), grad.data_ptr<float>(),
                                grad_gate.data_ptr<float>(), grad_up.data_ptr<float>(), size,
                                nullptr) == cudaSuccess);
  const at::Tensor gate_leaf = leaf(gate), up_leaf = leaf(up);
  const at::Tensor expected = at::silu(gate_leaf) * up_leaf;
  expected.backward(grad.to(at::kDouble));
  expect_close(y, expected.detach());
  expect_close(grad_gate, gate_leaf.grad());
  expect_close(grad_up, up_leaf.grad());
}

}  // namespace
}  // namespace ferro
