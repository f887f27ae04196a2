#include <array>

#include <catch2/catch.hpp>

#include "model/block_ops.h"
#include "tests/model/ops_inputs.h"

// Parts of a block as one operation against the operations of model/ops.h one after the other: values in
// every bit, gradients within fp32 noise (sums of a few hundred terms in another order: 5e-6 of the largest).

namespace ferro {
namespace {

using namespace ferro::testing;

constexpr double kBlockTolerance = 5e-6;

struct BlockCase {
  std::int64_t rows, width, inner;
  bool bias;
};
// Few rows, rows for each thread's chunk, several chunks; whole vectors and odd widths; two depth blocks.
const std::vector<BlockCase> kBlockCases{{1, 64, 96, true},    {5, 33, 70, false},  {47, 64, 32, true},
                                         {97, 40, 129, false}, {250, 64, 96, true}, {333, 50, 70, true},
                                         {120, 1040, 48, true}};

Param random_norm(std::int64_t width, unsigned seed) {
  return {random_tensor({width}, seed) + 1, at::zeros({width})};
}
void zero(const LinearWeights& w) {
  if (w.weight.grad.defined()) w.weight.grad.zero_();
  if (w.bias.grad.defined()) w.bias.grad.zero_();
}
void append_gradients(std::vector<at::Tensor>& to, const LinearWeights& w) {
  if (w.weight.grad.defined()) to.push_back(w.weight.grad.clone());
  if (w.bias.grad.defined()) to.push_back(w.bias.grad.clone());
  zero(w);
}

void check_close(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) {
  REQUIRE(a.size() == b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    CAPTURE(i);
    CHECK(relative_difference(a[i], b[i]) < kBlockTolerance);
  }
}

struct Mlp {
  GatedMlpWeights w;
  Param norm;

  explicit Mlp(const BlockCase& c)
      : w{random_linear(c.width, c.inner, c.bias, 1).panels,
          random_linear(c.width, c.inner, c.bias, 3).panels,
          random_linear(c.inner, c.width, c.bias, 5).panels},
        norm(random_norm(c.width, 7)) {}

  at::Tensor in_steps(const at::Tensor& x) const {
    const at::Tensor n = rms_norm(x, norm, 1e-6);
    return x + linear(swiglu(linear(n, w.gate), linear(n, w.up)), w.down);
  }
  at::Tensor at_once(const at::Tensor& x) const { return gated_mlp_onto(x, norm, 1e-6, w); }

  /// Of x, the norm and every layer.
  std::vector<at::Tensor> gradients_of(const at::Tensor& y, const at::Tensor& x, const at::Tensor& grad) {
    std::vector<at::Tensor> all = gradients(y, {x}, grad);
    all.push_back(norm.grad.clone());
    norm.grad.zero_();
    for (const LinearWeights* layer : {&w.gate, &w.up, &w.down}) append_gradients(all, *layer);
    return all;
  }
};

struct Projections {
  std::vector<LinearWeights> layers;
  std::vector<const LinearWeights*> pointers;
  Param norm;
  AttentionHeads heads;
  at::Tensor cos, sin;

  Projections(const BlockCase& c, bool one) : norm(random_norm(c.width, 7)) {
    heads = one ? AttentionHeads{2, 2, 10} : AttentionHeads{4, 2, 16};
    const std::int64_t q = heads.heads * heads.head_dim, k = heads.kv_heads * heads.head_dim;
    if (one) {
      layers = {random_linear(c.width, q + 2 * k, c.bias, 1).panels};
    } else {
      layers = {random_linear(c.width, q, c.bias, 1).panels, random_linear(c.width, k, c.bias, 3).panels,
                random_linear(c.width, k, c.bias, 5).panels};
    }
    for (const LinearWeights& w : layers) pointers.push_back(&w);
    const at::Tensor angles = random_tensor({c.rows, heads.head_dim / 2}, 9).repeat({1, 2});
    cos = angles.cos();
    sin = angles.sin();
  }

  AttentionInputs at_once(const at::Tensor& x) const {
    return attention_inputs(x, norm, 1e-6, pointers, heads, cos, sin);
  }
  AttentionInputs in_steps(const at::Tensor& x) const {
    const at::Tensor n = rms_norm(x, norm, 1e-6);
    std::array<at::Tensor, 3> parts;
    const std::array<std::int64_t, 3> count{heads.heads, heads.kv_heads, heads.kv_heads};
    const at::Tensor first = linear(n, layers[0]);
    for (std::size_t i = 0, column = 0; i < 3; ++i) {
      const auto width = static_cast<std::size_t>(count[i] * heads.head_dim);
      const at::Tensor rows =
          layers.size() == 3 ? (i == 0 ? first : linear(n, layers[i]))
                             : first.narrow(1, static_cast<std::int64_t>(column), count[i] * heads.head_dim);
      parts[i] = rows.contiguous().view({x.size(0), count[i], heads.head_dim});
      column += width;
    }
    return {rotary(parts[0], cos, sin), rotary(parts[1], cos, sin), parts[2], x};
  }

  std::vector<at::Tensor> gradients_of(const AttentionInputs& y, const at::Tensor& x,
                                       const std::vector<at::Tensor>& grads) {
    std::vector<at::Tensor> all = torch::autograd::grad({y.q, y.k, y.v, y.residual * 1}, {x}, grads);
    all.push_back(norm.grad.clone());
    norm.grad.zero_();
    for (const LinearWeights& w : layers) append_gradients(all, w);
    return all;
  }
};

}  // namespace

TEST_CASE("a gated layer on the residual has the bits of its steps, and their gradients") {
  for (const int threads : {1, 2}) {
    const Threads scope(threads);
    for (const BlockCase& c : kBlockCases) {
      CAPTURE(threads, c.rows, c.width, c.inner);
      Mlp mlp(c);
      const at::Tensor x = random_tensor({c.rows, c.width}, 11).set_requires_grad(true);
      const at::Tensor grad = random_tensor({c.rows, c.width}, 12);
      const at::Tensor steps = mlp.in_steps(x), once = mlp.at_once(x);
      CHECK(same_bits(once, steps));
      CHECK(same_bits(mlp.at_once(x.detach()), steps));
      check_close(mlp.gradients_of(once, x, grad), mlp.gradients_of(steps, x, grad));
    }
  }
}

TEST_CASE("queries, keys and values of a norm have the bits of their steps, and their gradients") {
  for (const int threads : {1, 2}) {
    const Threads scope(threads);
    for (const BlockCase& c : kBlockCases)
      for (const bool one : {false, true}) {
        CAPTURE(threads, c.rows, c.width, one);
        Projections p(c, one);
        const at::Tensor x = random_tensor({c.rows, c.width}, 11).set_requires_grad(true);
        const AttentionInputs steps = p.in_steps(x), once = p.at_once(x), without = p.at_once(x.detach());
        std::vector<at::Tensor> grads;
        for (const auto part :
             {&AttentionInputs::q, &AttentionInputs::k, &AttentionInputs::v, &AttentionInputs::residual}) {
          CHECK(same_bits(once.*part, steps.*part));
          CHECK(same_bits(without.*part, steps.*part));
          grads.push_back(random_tensor((steps.*part).sizes().vec(), 20));
        }
        check_close(p.gradients_of(once, x, grads), p.gradients_of(steps, x, grads));
      }
  }
}

TEST_CASE("rows onto a residual have the bits of product and sum, and their gradients") {
  for (const BlockCase& c : kBlockCases) {
    const LinearCase layer = random_linear(c.inner, c.width, c.bias, 1);
    at::Tensor x = random_tensor({c.rows, c.inner}, 2), residual = random_tensor({c.rows, c.width}, 3);
    CHECK(same_bits(linear_onto(residual, x, layer.panels), residual + linear(x, layer.panels)));
    x.set_requires_grad(true);
    residual.set_requires_grad(true);
    const at::Tensor grad = random_tensor({c.rows, c.width}, 4);
    std::vector<at::Tensor> once = gradients(linear_onto(residual, x, layer.panels), {x, residual}, grad);
    append_gradients(once, layer.panels);
    std::vector<at::Tensor> steps = gradients(residual + linear(x, layer.panels), {x, residual}, grad);
    append_gradients(steps, layer.panels);
    check_close(once, steps);
  }
  const LinearCase layer = random_linear(8, 8, false, 1);
  CHECK_THROWS_AS(linear_onto(at::zeros({2, 7}), at::zeros({2, 8}), layer.panels), Error);
}

TEST_CASE("a frozen block passes the gradient on and keeps none, and what is not used of it counts as zero") {
  const BlockCase c{130, 64, 96, true};
  Mlp mlp(c);
  Projections p(c, false);
  const at::Tensor x = random_tensor({c.rows, c.width}, 11).set_requires_grad(true);
  const at::Tensor grad = random_tensor({c.rows, c.width}, 12);
  const at::Tensor with = gradients(mlp.at_once(x), {x}, grad)[0];
  const std::vector<at::Tensor> alone =
      torch::autograd::grad({p.at_once(x).q}, {x}, {at::ones({c.rows, 4, 16})});
  const std::vector<at::Tensor> steps =
      torch::autograd::grad({p.in_steps(x).q}, {x}, {at::ones({c.rows, 4, 16})});
  check_close(alone, steps);
  mlp.norm.grad.reset();
  for (LinearWeights* w : {&mlp.w.gate, &mlp.w.up, &mlp.w.down}) {
    w->weight.grad.reset();
    w->bias.grad.reset();
  }
  CHECK(same_bits(gradients(mlp.at_once(x), {x}, grad)[0], with));
}

TEST_CASE("matrices as in files compute the same block in fp64") {
  const BlockCase c{60, 40, 56, true};
  Mlp mlp(c);
  const auto plain = [](const LinearWeights& w) {
    LinearWeights out;
    out.in = w.in;
    out.out = w.out;
    out.weight.value = from_panels(w.weight.value, w.out).to(at::kDouble);
    out.bias.value = w.bias.value.to(at::kDouble);
    return out;
  };
  const GatedMlpWeights w64{plain(mlp.w.gate), plain(mlp.w.up), plain(mlp.w.down)};
  const at::Tensor x = random_tensor({c.rows, c.width}, 11);
  const at::Tensor y64 = gated_mlp_onto(x.to(at::kDouble), {mlp.norm.value.to(at::kDouble), {}}, 1e-6, w64);
  CHECK(relative_difference(mlp.at_once(x), y64) < kBlockTolerance);
}

TEST_CASE("a gated layer is differentiated once, and no rows are no trouble") {
  const BlockCase c{0, 64, 96, true};
  Mlp mlp(c);
  at::Tensor none = at::empty({0, 64}).set_requires_grad(true);
  CHECK(gradients(mlp.at_once(none), {none}, at::empty({0, 64}))[0].size(0) == 0);
  const at::Tensor x = random_tensor({9, 64}, 1).set_requires_grad(true);
  const at::Tensor y = mlp.at_once(x);
  gradients(y, {x}, at::ones({9, 64}));
  CHECK_THROWS(gradients(y, {x}, at::ones({9, 64})));
  CHECK_THROWS_AS(gated_mlp_onto(at::zeros({3, 63}), mlp.norm, 1e-6, mlp.w), Error);
}

}  // namespace ferro
