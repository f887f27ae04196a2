#include <cmath>

#include <ATen/Parallel.h>
#include <catch2/catch.hpp>

#include "core/error.h"
#include "trainer/optimizer.h"

namespace ferro {
namespace {

ArenaTable ranges(std::initializer_list<std::int64_t> sizes) {
  ArenaTable table;
  for (const std::int64_t size : sizes) {
    table.parameters.push_back({.name = "w.weight", .shape = {size}, .offset = table.size, .size = size});
    table.size += size;
  }
  return table;
}

OptimizerConfig with_state(const char* dtype) {
  OptimizerConfig config;
  config.state_dtype = dtype;
  config.max_grad_norm = 0;
  return config;
}

/// A noisy least-squares problem whose directions differ by four decades in scale: gradients of the mean of
/// s_i (w_i - 1)^2 / 2 with noise that is the same for every optimizer.
struct Problem {
  static constexpr std::int64_t kSize = 4099;
  at::Tensor scale = at::pow(10.0, at::linspace(-4, 0, kSize, at::kFloat));
  at::Tensor gradient(const at::Tensor& w, int step) const {
    const at::Tensor noise = at::sin(at::arange(kSize, at::kFloat) * (0.37 * (step + 1)) + step);
    return (w - 1 + 0.3 * noise) * scale;
  }
  double loss(const at::Tensor& w) const { return ((w - 1).square() * scale).mean().item<double>() / 2; }
};

}  // namespace

TEST_CASE("a code's value is read back as it was written, the largest of a block exactly") {
  // One step from zero moments with gradient g: m = 0.1 g, v = 0.001 g^2.
  constexpr std::int64_t kSize = 3 * 256 + 100;
  AdamW exact(ranges({kSize}), with_state("float32")), coded(ranges({kSize}), with_state("int8"));
  const at::Tensor gradients =
      at::sin(at::arange(kSize, at::kFloat)) * at::pow(10.0, at::linspace(0, -3, kSize, at::kFloat));
  at::Tensor a = at::zeros({kSize}), b = at::zeros({kSize});
  exact.step(a, gradients, 1e-3, 1);
  coded.step(b, gradients, 1e-3, 1);
  CHECK(at::equal(a, b));  // The update itself is in fp32.
  const at::Tensor m = exact.first_moment(), v = exact.second_moment(), m8 = coded.first_moment(),
                   v8 = coded.second_moment();
  for (std::int64_t begin = 0; begin < kSize; begin += 256) {
    const std::int64_t size = std::min<std::int64_t>(256, kSize - begin);
    const auto of = [&](const at::Tensor& t) { return t.narrow(0, begin, size); };
    const auto largest = [](const at::Tensor& t) { return t.abs().max().item<float>(); };
    CHECK(largest(of(m8)) == largest(of(m)));
    CHECK(largest(of(v8)) == largest(of(v)));
    // The widest gap is in the top decade: 0.9 / 64, and 0.9 / 128 without a sign.
    CHECK(largest(of(m8) - of(m)) <= 0.9F / 64 * largest(of(m)));
    CHECK(largest(of(v8) - of(v)) <= 0.9F / 128 * largest(of(v)));
    CHECK(of(v8).gt(0).logical_or(of(v).eq(0)).all().item<bool>());
  }
  CHECK((m8 * m).ge(0).all().item<bool>());
}

TEST_CASE("rounding to codes keeps the mean") {
  // The same moments rounded under 400 seeds; the mean's error falls as 1 / sqrt(400) of a gap.
  constexpr std::int64_t kSize = 256;
  const at::Tensor gradients = at::cos(at::arange(kSize, at::kFloat));
  at::Tensor sum_first = at::zeros({kSize}, at::kDouble), sum_second = at::zeros({kSize}, at::kDouble);
  constexpr int kSeeds = 400;
  const ArenaTable table = ranges({kSize});
  for (int seed = 0; seed < kSeeds; ++seed) {
    AdamW adamw(table, TrainedSet::all(table), with_state("int8"), static_cast<std::uint64_t>(seed));
    at::Tensor weights = at::zeros({kSize});
    adamw.step(weights, gradients, 1e-3, 1);
    sum_first += adamw.first_moment();
    sum_second += adamw.second_moment();
  }
  // A gap is at most 0.9 / 64 of 0.1 (0.9 / 128 of 0.001); half of it is the largest standard deviation of
  // one draw, and five of the mean's bound all 256.
  const at::Tensor m = gradients.to(at::kDouble) * 0.1, v = gradients.to(at::kDouble).square() * 0.001;
  CHECK((sum_first / kSeeds - m).abs().max().item<double>() < 5 * 0.1 * 0.9 / 64 / 2 / std::sqrt(kSeeds));
  CHECK((sum_second / kSeeds - v).abs().max().item<double>() < 5 * 0.001 * 0.9 / 128 / 2 / std::sqrt(kSeeds));
}

TEST_CASE("a trajectory with 8-bit moments stays beside the one in fp32, at a quarter of the memory") {
  const Problem problem;
  const ArenaTable table = ranges({Problem::kSize});
  AdamW exact(table, with_state("float32")), coded(table, with_state("int8"));
  at::Tensor a = at::zeros({Problem::kSize}), b = a.clone();
  double moved = 0, apart = 0;
  for (int step = 0; step < 300; ++step) {
    exact.step(a, problem.gradient(a, step), 5e-3, 1);
    coded.step(b, problem.gradient(b, step), 5e-3, 1);
    moved = a.norm().item<double>();
    apart = std::max(apart, (a - b).norm().item<double>() / moved);
  }
  INFO("largest distance " << apart << " of the way, losses " << problem.loss(a) << " and "
                           << problem.loss(b));
  CHECK(problem.loss(a) < 0.05 * problem.loss(at::zeros({Problem::kSize})));
  CHECK(problem.loss(b) < 1.02 * problem.loss(a));  // Measured: 1.004.
  CHECK(apart < 0.02);                              // Measured: .011.
  CHECK(exact.state_bytes() == 8 * Problem::kSize);
  CHECK(coded.state_bytes() == 2 * Problem::kSize + 8 * 17);  // 17 blocks of 256, two scales each.
}

TEST_CASE("8-bit moments have the same bits at any thread count") {
  constexpr std::int64_t kSize = 100'003;
  const int before = at::get_num_threads();
  std::vector<at::Tensor> results;
  for (const int threads : {1, 2, 3}) {
    at::set_num_threads(threads);
    AdamW adamw(ranges({kSize, 5, 77}), with_state("int8"));
    at::Tensor weights = at::sin(at::arange(kSize + 82, at::kFloat));
    for (int step = 1; step < 4; ++step)
      adamw.step(weights, at::cos(at::arange(kSize + 82, at::kFloat) * step), 1e-3, 1);
    results.push_back(weights);
    results.push_back(adamw.first_moment());
    results.push_back(adamw.second_moment());
  }
  at::set_num_threads(before);
  for (std::size_t i = 3; i < results.size(); ++i) CHECK(at::equal(results[i], results[i % 3]));
}

TEST_CASE("8-bit moments of a part without a gradient keep their codes and scales") {
  ArenaTable table = ranges({1000, 300});
  table.parameters[0].name = "visual.blocks.0.mlp.up_proj.weight";
  AdamW adamw(table, TrainedSet::all(table), with_state("int8"), 1);
  at::Tensor weights = at::ones({1300});
  const at::Tensor gradients = at::cos(at::arange(1300, at::kFloat));
  adamw.step(weights, gradients, 1e-2, 1);
  // Four blocks of 256 are the first part's: blocks do not reach from one part into another.
  const auto vision = [&] {
    const AdamW::State s = adamw.state();
    return std::vector<at::Tensor>{
        weights.narrow(0, 0, 1000).clone(), s.first_moment.narrow(0, 0, 1000).clone(),
        s.second_moment.narrow(0, 0, 1000).clone(), s.first_scale.narrow(0, 0, 4).clone(),
        s.second_scale.narrow(0, 0, 4).clone()};
  };
  const std::vector<at::Tensor> before = vision();
  const at::Tensor language = adamw.first_moment().narrow(0, 1000, 300);
  adamw.step(weights, gradients, 1e-2, 1, {.vision = false, .merger = false});
  const std::vector<at::Tensor> after = vision();
  for (std::size_t i = 0; i < before.size(); ++i) CHECK(at::equal(before[i], after[i]));
  CHECK_FALSE(at::equal(language, adamw.first_moment().narrow(0, 1000, 300)));
}

TEST_CASE("state exists for what is trained only") {
  ArenaTable table = ranges({1000, 300});
  table.parameters[0].name = "visual.blocks.0.mlp.up_proj.weight";
  TrainedSet trained;
  trained.offsets = {-1, 0};
  trained.size = 300;
  for (const char* dtype : {"float32", "int8"}) {
    AdamW adamw(table, trained, with_state(dtype), 1);
    at::Tensor weights = at::ones({1300});
    adamw.step(weights, at::ones({300}), 1e-2, 1);
    CHECK(weights.narrow(0, 0, 1000).eq(1).all().item<bool>());
    CHECK(weights.narrow(0, 1000, 300).eq(1).any().item<bool>() == false);
    CHECK(adamw.state_bytes() == (dtype[0] == 'f' ? 8 * 300 : 2 * 300 + 8 * 2));
  }
}

}  // namespace ferro
