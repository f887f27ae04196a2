#include <catch2/catch.hpp>

#include <cmath>
#include <limits>

#include "tests/model/ops_inputs.h"

namespace ferro {
namespace {

using namespace ferro::testing;

// Element-wise results are a handful of operations of 2^-24 relative error each; a row's sum of some hundred
// adds a few more.
constexpr double kRowTolerance = 2e-6;
const std::vector<std::int64_t> kWidths{1, 5, 16, 17, 24, 96, 128, 333};

}  // namespace

TEST_CASE("rms_norm agrees with fp64 in value and gradients") {
  for (const std::int64_t width : kWidths)
    for (const std::int64_t rows : {1, 64, 201}) {
      CAPTURE(width, rows);
      at::Tensor x = random_tensor({rows, width}, 1, 3.0f).set_requires_grad(true);
      const Param weight{random_tensor({width}, 2), at::zeros({width})};
      const at::Tensor grad = random_tensor({rows, width}, 3);
      const at::Tensor y = rms_norm(x, weight, 1e-6);
      const at::Tensor dx = gradients(y, {x}, grad)[0];
      const at::Tensor x64 = as_double_leaf(x), w64 = as_double_leaf(weight.value);
      const at::Tensor expected = reference::rms_norm(x64, w64, 1e-6);
      const std::vector<at::Tensor> grads = gradients(expected, {x64, w64}, grad.to(at::kDouble));
      CHECK(relative_difference(y, expected) < kRowTolerance);
      // At width 1 the gradient is zero but for eps: a difference of two numbers of size 1.
      CHECK((dx.to(at::kDouble) - grads[0]).abs().max().item<double>() < 2e-5);
      CHECK(relative_difference(weight.grad, grads[1]) < 1e-5);
    }
}

TEST_CASE("rms_norm in fp64 uses the composed operations with the same gradients") {
  at::Tensor x = random_tensor({6, 10}, 1).to(at::kDouble).set_requires_grad(true);
  const Param weight{random_tensor({10}, 2).to(at::kDouble), at::zeros({10}, at::kDouble)};
  const at::Tensor grad = random_tensor({6, 10}, 3).to(at::kDouble), w = as_double_leaf(weight.value),
                   x2 = as_double_leaf(x);
  const at::Tensor dx = gradients(rms_norm(x, weight, 1e-6), {x}, grad)[0];
  const std::vector<at::Tensor> expected = gradients(reference::rms_norm(x2, w, 1e-6), {x2, w}, grad);
  CHECK(relative_difference(dx, expected[0]) < 1e-12);
  CHECK(relative_difference(weight.grad, expected[1]) < 1e-12);
}

TEST_CASE("swiglu and gelu agree with fp64 in value and gradients") {
  for (const std::int64_t width : kWidths) {
    CAPTURE(width);
    at::Tensor a = random_tensor({50, width}, 1, 3.0f).set_requires_grad(true),
               b = random_tensor({50, width}, 2).set_requires_grad(true);
    const at::Tensor grad = random_tensor({50, width}, 3), a64 = as_double_leaf(a), b64 = as_double_leaf(b);
    const at::Tensor y = swiglu(a, b), expected = reference::swiglu(a64, b64);
    CHECK(relative_difference(y, expected) < kRowTolerance);
    const std::vector<at::Tensor> grads = gradients(y, {a, b}, grad),
                                  expected_grads = gradients(expected, {a64, b64}, grad.to(at::kDouble));
    CHECK(relative_difference(grads[0], expected_grads[0]) < kRowTolerance);
    CHECK(relative_difference(grads[1], expected_grads[1]) < kRowTolerance);
    const at::Tensor g = ferro::gelu(a), expected_gelu = reference::gelu(a64);
    CHECK(relative_difference(g, expected_gelu) < kRowTolerance);
    CHECK(relative_difference(gradients(g, {a}, grad)[0],
                              gradients(expected_gelu, {a64}, grad.to(at::kDouble))[0]) < kRowTolerance);
  }
}

TEST_CASE("gates saturate without NaN") {
  const float inf = std::numeric_limits<float>::infinity();
  const at::Tensor x = at::tensor({-1e30f, -100.0f, -88.0f, 0.0f, 88.0f, 100.0f, 1e30f}).unsqueeze(0);
  const at::Tensor y = swiglu(x, at::ones_like(x)), g = ferro::gelu(x);
  CHECK_FALSE(y.isnan().any().item<bool>());
  CHECK(y[0][1].item<float>() == 0.0f);
  CHECK(y[0][6].item<float>() == 1e30f);
  CHECK(g[0][0].item<float>() == 0.0f);
  CHECK(g[0][5].item<float>() == 100.0f);
  CHECK(std::isnan(ferro::gelu(at::full({1, 1}, std::nanf("")))[0][0].item<float>()));
  CHECK(swiglu(at::full({1, 1}, inf), at::ones({1, 1}))[0][0].item<float>() == inf);
}

TEST_CASE("rotary agrees with fp64 in value and gradient") {
  for (const std::int64_t width : {2, 24, 32, 80, 128}) {
    CAPTURE(width);
    const at::Tensor angles = random_tensor({37, width / 2}, 5, 10.0f), full = at::cat({angles, angles}, 1);
    const at::Tensor cos = full.cos(), sin = full.sin(), grad = random_tensor({37, 3, width}, 3);
    at::Tensor x = random_tensor({37, 3, width}, 1).set_requires_grad(true);
    const at::Tensor x64 = as_double_leaf(x), y = rotary(x, cos, sin);
    const at::Tensor expected = reference::rotary(x64, cos.to(at::kDouble), sin.to(at::kDouble));
    CHECK(relative_difference(y, expected) < kRowTolerance);
    CHECK(relative_difference(gradients(y, {x}, grad)[0],
                              gradients(expected, {x64}, grad.to(at::kDouble))[0]) < kRowTolerance);
  }
}

TEST_CASE("token log-probs, entropies and probabilities agree with fp64") {
  for (const std::int64_t vocabulary : {1, 7, 513, 2048, 152064}) {
    for (const double temperature : {1.0, 0.7}) {
      CAPTURE(vocabulary, temperature);
      at::Tensor logits = random_tensor({3, vocabulary}, 1, 4.0f);
      const auto last = static_cast<std::int32_t>(vocabulary - 1);
      const std::vector<std::int32_t> tokens{last, 0, last / 2};
      const std::vector<std::int32_t> banned =
          vocabulary > 7 ? std::vector<std::int32_t>{3, 5} : std::vector<std::int32_t>{};
      const reference::TokenDistribution expected =
          reference::token_distribution(logits.to(at::kDouble), tokens, temperature, banned);
      const std::vector<TokenLogprob> rows = token_logprobs(logits, tokens, temperature, banned);
      for (std::int64_t i = 0; i < 3; ++i) {
        // The temperature division and the float result: some 2^-24 of a log-prob of size 20.
        CHECK(rows[static_cast<std::size_t>(i)].logprob ==
              Approx(expected.logprobs_N[i].item<double>()).margin(5e-6));
        CHECK(rows[static_cast<std::size_t>(i)].entropy ==
              Approx(expected.entropies_N[i].item<double>()).epsilon(1e-5).margin(1e-6));
      }
      CHECK((logits - expected.probabilities_NV).abs().max().item<double>() < 1e-6);
      CHECK((logits.to(at::kDouble).sum(1) - 1.0).abs().max().item<double>() < 1e-5);
    }
  }
}

TEST_CASE("a banned token has log-prob -inf and probability zero") {
  at::Tensor logits = random_tensor({1, 50}, 1);
  const std::vector<TokenLogprob> rows =
      token_logprobs(logits, std::vector<std::int32_t>{9}, 1.0, std::vector<std::int32_t>{9});
  CHECK(rows[0].logprob == -std::numeric_limits<float>::infinity());
  CHECK(std::isfinite(rows[0].entropy));
  CHECK(logits[0][9].item<float>() == 0.0f);
  CHECK_THROWS_AS(token_logprobs(logits, std::vector<std::int32_t>{50}, 1.0, {}), Error);
}

TEST_CASE("several tokens of a row have the values of each alone, by kernels and by ATen") {
  const std::vector<std::int32_t> tokens{4, 699, 4, 0, 12, 350}, begins{0, 3, 4, 6}, banned{7};
  const at::Tensor all = random_tensor({3, 700}, 1, 3.0f);
  for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
    at::Tensor logits = all.to(type, false, true);
    const std::vector<TokenLogprob> values = token_logprobs(logits, tokens, 0.9, banned, begins);
    REQUIRE(values.size() == tokens.size());
    for (std::size_t row = 0, i = 0; row < 3; ++row)
      for (; i < static_cast<std::size_t>(begins[row + 1]); ++i) {
        const auto at = static_cast<std::int64_t>(row);
        at::Tensor alone = all.slice(0, at, at + 1).to(type, false, true);
        const TokenLogprob value = token_logprobs(alone, std::span(tokens).subspan(i, 1), 0.9, banned)[0];
        CHECK(values[i].logprob == value.logprob);
        CHECK(values[i].entropy == value.entropy);
        CHECK(values[i].is_largest == value.is_largest);
        CHECK(at::equal(logits.slice(0, at, at + 1), alone));
      }
  }
  at::Tensor logits = all.clone();
  for (const std::vector<std::int32_t>& wrong :
       {std::vector<std::int32_t>{0, 3, 3, 6}, {0, 3, 6}, {0, 3, 4, 5}})
    CHECK_THROWS_AS(token_logprobs(logits, tokens, 0.9, banned, wrong), Error);
}

TEST_CASE("row operations of no rows yield no rows") {
  const at::Tensor none = at::empty({0, 32});
  CHECK(rms_norm(none, {at::ones({32}), {}}, 1e-6).size(0) == 0);
  CHECK(swiglu(none, none).size(0) == 0);
  CHECK(ferro::gelu(none).size(0) == 0);
  CHECK(rotary(at::empty({0, 2, 32}), none, none).size(0) == 0);
  at::Tensor logits = at::empty({0, 32});
  CHECK(token_logprobs(logits, {}, 1.0, {}).empty());
}

TEST_CASE("no graph is recorded where none is wanted") {
  at::Tensor x = random_tensor({4, 32}, 1).set_requires_grad(true);
  const Param weight{at::ones({32}), {}};
  CHECK(rms_norm(x, weight, 1e-6).requires_grad());
  const at::NoGradGuard no_graph;
  CHECK_FALSE(rms_norm(x, weight, 1e-6).requires_grad());
  CHECK_FALSE(swiglu(x, x).requires_grad());
}

}  // namespace ferro
