#include <catch2/catch.hpp>

#include "tests/model/ops_inputs.h"

namespace ferro {
namespace {

using namespace ferro::testing;

// A sum of n products in fp32 errs by about sqrt(n) * 2^-24 of its terms' size; n is at most a few thousand
// here, so 5e-6 of the largest result leaves a factor of two or more.
constexpr double kTolerance = 5e-6;

struct Shape {
  std::int64_t rows, in, out;
};
const std::vector<Shape> kShapes{{1, 1, 1},      {3, 1, 33},     {1, 513, 32},   {7, 513, 33},
                                 {14, 128, 128}, {15, 96, 288},  {29, 512, 64},  {113, 1025, 40},
                                 {130, 24, 100}, {600, 40, 31},  {2, 1030, 160}, {5, 37, 65},
                                 {700, 130, 70}, {257, 64, 2048}};

void check_shape(const Shape& s, bool with_bias) {
  CAPTURE(s.rows, s.in, s.out, with_bias);
  const LinearCase c = random_linear(s.in, s.out, with_bias, 7);
  at::Tensor x = random_tensor({s.rows, s.in}, 8).set_requires_grad(true);
  const at::Tensor grad = random_tensor({s.rows, s.out}, 9);
  const at::Tensor y = linear(x, c.panels);
  const at::Tensor dx = gradients(y, {x}, grad)[0];

  std::vector<at::Tensor> leaves{as_double_leaf(x), as_double_leaf(c.weight)};
  const at::Tensor bias = with_bias ? as_double_leaf(c.bias) : at::Tensor();
  if (with_bias) leaves.push_back(bias);
  const at::Tensor expected = reference::linear(leaves[0], leaves[1], bias);
  const std::vector<at::Tensor> expected_grads = gradients(expected, leaves, grad.to(at::kDouble));

  CHECK(relative_difference(y, expected) < kTolerance);
  CHECK(relative_difference(dx, expected_grads[0]) < kTolerance);
  CHECK(relative_difference(from_panels(c.panels.weight.grad, s.out), expected_grads[1]) < kTolerance);
  if (with_bias) CHECK(relative_difference(c.panels.bias.grad, expected_grads[2]) < kTolerance);
  // The padding of the last panel is never a weight: its gradient stays zero.
  const at::Tensor all = c.panels.weight.grad.transpose(1, 2).reshape({-1, s.in});
  CHECK(all.slice(0, s.out).abs().sum().item<float>() == 0.0f);
}

}  // namespace

TEST_CASE("a linear layer on panels agrees with fp64 in value and gradients") {
  for (const Shape& s : kShapes)
    for (const bool bias : {false, true}) check_shape(s, bias);
}

TEST_CASE("gradients of a linear layer are added to what is there") {
  const LinearCase c = random_linear(65, 40, true, 1);
  const at::Tensor x = random_tensor({33, 65}, 2), grad = random_tensor({33, 40}, 3);
  linear_backward(x, grad, c.panels, false);
  const at::Tensor once = c.panels.weight.grad.clone(), bias_once = c.panels.bias.grad.clone();
  linear_backward(x, grad, c.panels, false);
  CHECK(same_bits(c.panels.weight.grad, once * 2));
  CHECK(same_bits(c.panels.bias.grad, bias_once * 2));
}

TEST_CASE("a frozen linear layer passes the gradient on and keeps none") {
  LinearCase c = random_linear(48, 40, true, 1);
  const at::Tensor grad = random_tensor({9, 40}, 3);
  at::Tensor x = random_tensor({9, 48}, 2).set_requires_grad(true);
  const at::Tensor with = gradients(linear(x, c.panels), {x}, grad)[0];
  c.panels.weight.grad.reset();
  c.panels.bias.grad.reset();
  CHECK(same_bits(gradients(linear(x, c.panels), {x}, grad)[0], with));
}

TEST_CASE("rows of a linear layer may lie apart") {
  const LinearCase c = random_linear(48, 40, false, 1);
  const at::Tensor wide = random_tensor({21, 100}, 2);
  const at::Tensor slice = wide.slice(1, 7, 55);
  CHECK(same_bits(linear(slice, c.panels), linear(slice.contiguous(), c.panels)));
}

TEST_CASE("a linear layer of no rows yields no rows and no gradient") {
  const LinearCase c = random_linear(48, 40, true, 1);
  at::Tensor x = at::empty({0, 48}, at::kFloat).set_requires_grad(true);
  const at::Tensor y = linear(x, c.panels);
  CHECK(y.sizes() == at::IntArrayRef({0, 40}));
  CHECK(linear_backward(x.detach(), at::empty({0, 40}, at::kFloat), c.panels, true).sizes() ==
        at::IntArrayRef({0, 48}));
  CHECK(c.panels.weight.grad.abs().sum().item<float>() == 0.0f);
}

TEST_CASE("the plain layout computes the same layer, in value and gradients") {
  LinearCase c = random_linear(70, 45, true, 4);
  LinearWeights plain;
  plain.in = 70;
  plain.out = 45;
  plain.weight = {c.weight.to(at::kDouble), at::zeros({45, 70}, at::kDouble)};
  plain.bias = {c.bias.to(at::kDouble), at::zeros({45}, at::kDouble)};
  const at::Tensor grad = random_tensor({12, 45}, 6);
  at::Tensor x = random_tensor({12, 70}, 5).set_requires_grad(true);
  at::Tensor x64 = as_double_leaf(x);
  const at::Tensor y = linear(x, c.panels), y64 = linear(x64, plain);
  CHECK(relative_difference(y, y64) < kTolerance);
  CHECK(relative_difference(gradients(y, {x}, grad)[0], gradients(y64, {x64}, grad.to(at::kDouble))[0]) <
        kTolerance);
  CHECK(relative_difference(from_panels(c.panels.weight.grad, 45), plain.weight.grad) < kTolerance);
  CHECK(relative_difference(c.panels.bias.grad, plain.bias.grad) < kTolerance);
}

TEST_CASE("a linear layer refuses rows of another width") {
  const LinearCase c = random_linear(48, 40, false, 1);
  CHECK_THROWS_AS(linear(at::zeros({2, 47}), c.panels), Error);
  CHECK_THROWS_AS(linear_backward(at::zeros({2, 48}), at::zeros({3, 40}), c.panels, true), Error);
}

TEST_CASE("an embedding looks up rows and adds their gradients in place, except skipped ones") {
  for (const std::int64_t width : {1, 24, 130}) {
    LinearCase c = random_linear(width, 70, false, 3);
    const std::vector<std::int32_t> ids{69, 0, 31, 32, 69, 33, 0, 5};
    CHECK(same_bits(embedding(ids, c.panels),
                    c.weight.index_select(0, reference::index_tensor(ids, at::kCPU))));
    const at::Tensor grad = random_tensor({8, width}, 4);
    const std::vector<std::uint8_t> skip{0, 0, 0, 1, 0, 0, 0, 1};
    embedding_backward(ids, grad, c.panels, skip);
    LinearWeights plain;
    plain.in = width;
    plain.out = 70;
    plain.weight = {c.weight, at::zeros_like(c.weight)};
    embedding_backward(ids, grad, plain, skip);
    CHECK(same_bits(from_panels(c.panels.weight.grad, 70), plain.weight.grad));
    CHECK(plain.weight.grad[32].abs().sum().item<float>() == 0.0f);
    CHECK(relative_difference(plain.weight.grad[69], grad[0] + grad[4]) == 0.0);
    CHECK_THROWS_AS(embedding(std::vector<std::int32_t>{70}, c.panels), Error);
  }
}

}  // namespace ferro
