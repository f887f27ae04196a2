#include "model/kernels/kernels.h"

#include <catch2/catch.hpp>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

// Each instruction set on its own, and all against each other. Without LibTorch.

namespace ferro::kernels {
namespace {

std::vector<const Kernels*> all_sets() {
  std::vector<const Kernels*> sets;
  for (const char* name : {"portable", "avx2", "avx512"})
    if (const Kernels* set = find(name)) sets.push_back(set);
  return sets;
}

std::vector<float> random_floats(std::size_t n, unsigned seed, float scale = 1.0f) {
  std::vector<float> values(n);
  std::mt19937 bits(seed);
  std::normal_distribution<float> normal(0.0f, scale);
  for (float& v : values) v = normal(bits);
  return values;
}

/// Distance in units of the last place of the correctly rounded fp32 value.
double ulps(float value, double exact) {
  const float rounded = static_cast<float>(exact);
  const double unit =
      static_cast<double>(std::nextafter(std::abs(rounded), std::numeric_limits<float>::infinity())) -
      std::abs(static_cast<double>(rounded));
  return std::abs(static_cast<double>(value) - exact) / unit;
}

struct LinearBuffers {
  std::int64_t rows, in, out;
  std::vector<float> x, panels, bias, dy;
};
LinearBuffers linear_buffers(std::int64_t rows, std::int64_t in, std::int64_t out) {
  auto count = [](std::int64_t a, std::int64_t b) { return static_cast<std::size_t>(a * b); };
  return {rows,
          in,
          out,
          random_floats(count(rows, in), 1),
          random_floats(count(panel_count(out) * 32, in), 2),
          random_floats(static_cast<std::size_t>(out), 3),
          random_floats(count(rows, out), 4)};
}

std::vector<float> run_linear(const Kernels& set, const LinearBuffers& b, int threads) {
  std::vector<float> result(static_cast<std::size_t>(b.rows * b.out + b.rows * b.in) + b.panels.size() +
                            b.bias.size());
  float *y = result.data(), *dx = y + b.rows * b.out, *dw = dx + b.rows * b.in, *db = dw + b.panels.size();
  set.linear_forward({b.x.data(), b.rows, b.in, b.in}, b.panels.data(), b.bias.data(), {},
                     {y, b.rows, b.out, b.out}, threads);
  set.linear_backward_input({b.dy.data(), b.rows, b.out, b.out}, b.panels.data(), {dx, b.rows, b.in, b.in},
                            false, threads);
  set.linear_backward_weight({b.x.data(), b.rows, b.in, b.in}, {b.dy.data(), b.rows, b.out, b.out}, dw, db,
                             threads);
  return result;
}

}  // namespace

TEST_CASE("exp errs by at most two units in the last place, and saturates") {
  std::vector<float> x;
  for (int i = 0; i < 200000; ++i) x.push_back(-86.5f + static_cast<float>(i) * (175.0f / 200000.0f));
  const float inf = std::numeric_limits<float>::infinity();
  const std::vector<float> ends{-inf, -88.0f, 0.0f, 89.0f, inf, std::nanf("")};
  for (const Kernels* set : all_sets()) {
    INFO(set->name);
    std::vector<float> y(x.size()), at_ends(ends.size());
    set->exp(x.data(), y.data(), static_cast<std::int64_t>(x.size()));
    double worst = 0;
    for (std::size_t i = 0; i < x.size(); ++i)
      worst = std::max(worst, ulps(y[i], std::exp(static_cast<double>(x[i]))));
    CHECK(worst < 2.0);
    set->exp(ends.data(), at_ends.data(), static_cast<std::int64_t>(ends.size()));
    CHECK(at_ends[0] == 0.0f);
    CHECK(at_ends[1] == 0.0f);
    CHECK(at_ends[2] == 1.0f);
    CHECK(at_ends[3] == inf);
    CHECK(at_ends[4] == inf);
    CHECK(std::isnan(at_ends[5]));
  }
}

TEST_CASE("erf errs by at most three units in the last place") {
  std::vector<float> x;
  for (int i = 0; i <= 200000; ++i) x.push_back(-5.0f + static_cast<float>(i) * (10.0f / 200000.0f));
  for (const Kernels* set : all_sets()) {
    INFO(set->name);
    std::vector<float> y(x.size());
    set->erf(x.data(), y.data(), static_cast<std::int64_t>(x.size()));
    double worst = 0;
    for (std::size_t i = 0; i < x.size(); ++i)
      worst = std::max(worst, ulps(y[i], std::erf(static_cast<double>(x[i]))));
    CHECK(worst < 3.0);
  }
}

TEST_CASE(
    "instruction sets agree on the linear layer up to rounding, each with the same bits at any thread "
    "count") {
  // Sums of up to 1100 products of size 1: rounding errors of about sqrt(1100) 2^-24, times the size of the
  // sum's largest partial result.
  for (const auto& [rows, in, out] :
       std::vector<std::array<std::int64_t, 3>>{{1, 513, 33}, {13, 100, 200}, {300, 1100, 129}}) {
    const LinearBuffers b = linear_buffers(rows, in, out);
    const std::vector<float> expected = run_linear(*find("portable"), b, 1);
    for (const Kernels* set : all_sets()) {
      INFO(set->name);
      const std::vector<float> one = run_linear(*set, b, 1), three = run_linear(*set, b, 3);
      CHECK(std::memcmp(one.data(), three.data(), one.size() * sizeof(float)) == 0);
      double worst = 0;
      for (std::size_t i = 0; i < one.size(); ++i)
        worst = std::max(worst, std::abs(static_cast<double>(one[i]) - static_cast<double>(expected[i])));
      CHECK(worst < 2e-4);
    }
  }
}

TEST_CASE("instruction sets agree on attention up to rounding") {
  const std::vector<SpanView> spans{{0, 40, 0, 0, 0, 40}, {40, 60, 0, 40, 40, 60}, {60, 95, 0, 40, 60, 95}};
  const AttentionShape shape{4, 2, 24, true, spans.data(), 3, 95, 95};
  const std::size_t q_size = 95 * 4 * 24, k_size = 95 * 2 * 24;
  const std::vector<float> q = random_floats(q_size, 1), k = random_floats(k_size, 2),
                           v = random_floats(k_size, 3), grad = random_floats(q_size, 4);
  auto run = [&](const Kernels& set) {
    std::vector<float> out(2 * q_size + 2 * k_size), stats(95 * 4 * 2);
    float *o = out.data(), *dq = o + q_size, *dk = dq + q_size, *dv = dk + k_size;
    set.attention_forward(shape, {q.data(), 96}, {k.data(), 48}, {v.data(), 48}, o, stats.data(), 2);
    set.attention_backward(shape, {q.data(), 96}, {k.data(), 48}, {v.data(), 48}, o, stats.data(),
                           grad.data(), dq, dk, dv, 2);
    return out;
  };
  const std::vector<float> expected = run(*find("portable"));
  for (const Kernels* set : all_sets()) {
    INFO(set->name);
    const std::vector<float> out = run(*set);
    double worst = 0;
    for (std::size_t i = 0; i < out.size(); ++i)
      worst = std::max(worst, std::abs(static_cast<double>(out[i]) - static_cast<double>(expected[i])));
    // Values of size up to 10, some hundred fp32 operations deep.
    CHECK(worst < 5e-5);
  }
}

TEST_CASE("the best set is one that this processor names") {
  CHECK(find(best().name) == &best());
  CHECK(find("none such") == nullptr);
}

}  // namespace ferro::kernels
