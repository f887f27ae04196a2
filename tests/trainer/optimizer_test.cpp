#include "trainer/optimizer.h"

#include <cmath>

#include <ATen/Parallel.h>
#include <catch2/catch.hpp>

#include "core/error.h"
#include "tests/golden.h"

namespace ferro {
namespace {

ArenaTable one_range(std::int64_t size) {
  ArenaTable table;
  table.size = size;
  table.parameters.push_back({.name = "w.weight", .shape = {size}, .size = size});
  return table;
}

/// torch.optim.AdamW of one parameter in fp64: its state, the number of steps included, is its own, and a
/// step in which `grad` is None passes it by.
struct TorchParameter {
  at::Tensor weight, first, second;
  std::int64_t steps = 0;
  double share, weight_decay;  ///< Of the step's rate; decay.

  TorchParameter(const at::Tensor& start, double rate_share, double decay)
      : weight(start.to(at::kDouble)),
        first(at::zeros_like(weight)),
        second(at::zeros_like(weight)),
        share(rate_share),
        weight_decay(decay) {}
  void step(const at::Tensor& grad, double rate) {
    if (!grad.defined()) return;
    ++steps;
    const at::Tensor g = grad.to(at::kDouble);
    weight = weight * (1 - rate * share * weight_decay);
    first = 0.9 * first + 0.1 * g;
    second = 0.999 * second + 0.001 * g * g;
    const auto t = static_cast<double>(steps);
    const at::Tensor unbiased = second / (1 - std::pow(0.999, t));
    weight = weight - rate * share / (1 - std::pow(0.9, t)) * first / (unbiased.sqrt() + 1e-8);
  }
};

/// Three parameters, one of each part, the first longer than a unit of work.
ArenaTable three_parts() {
  ArenaTable table;
  for (const auto& [name, size] :
       std::vector<std::pair<std::string, std::int64_t>>{{"visual.blocks.0.attn.proj.weight", 40'003},
                                                         {"visual.merger.mlp.0.weight", 517},
                                                         {"model.layers.0.mlp.up_proj.weight", 4'001}}) {
    table.parameters.push_back({.name = name, .shape = {size}, .offset = table.size, .size = size});
    table.size += size;
  }
  return table;
}

}  // namespace

TEST_CASE(
    "a part without a gradient is passed by, and its bias correction counts its own steps, as in torch") {
  OptimizerConfig config;
  config.learning_rate = 1e-2;
  config.vision.learning_rate = 5e-3;
  config.weight_decay = 0.1;
  config.max_grad_norm = 0;
  // Which steps hold pictures; in the fifth their gradient is zero, which is not the same as none.
  for (const auto& pictures : {std::vector<bool>{true, false, false, true, true, false, true},
                               std::vector<bool>{false, false, true, false, true, true, false}}) {
    const ArenaTable table = three_parts();
    AdamW adamw(table, config);
    at::Tensor weights = at::sin(at::arange(table.size, at::kFloat));
    const auto of = [&](const at::Tensor& flat, std::size_t i) {
      return flat.narrow(0, table.parameters[i].offset, table.parameters[i].size);
    };
    std::vector<TorchParameter> reference;
    for (std::size_t i = 0; i < 3; ++i) reference.emplace_back(of(weights, i), i == 0 ? 0.5 : 1.0, 0.1);
    for (std::size_t step = 0; step < pictures.size(); ++step) {
      const double rate = 1e-2 / static_cast<double>(step + 1);
      at::Tensor gradients =
          at::cos(at::arange(table.size, at::kFloat) * (0.7 * static_cast<double>(step + 1)));
      if (step == 4) of(gradients, 0).zero_();
      const at::Tensor before = weights.clone();
      adamw.step(weights, gradients, rate, 1, {.vision = pictures[step], .merger = pictures[step]});
      for (std::size_t i = 0; i < 3; ++i) {
        INFO("step " << step << ", " << table.parameters[i].name);
        const bool has_gradient = i == 2 || pictures[step];
        reference[i].step(has_gradient ? of(gradients, i) : at::Tensor(), rate);
        CHECK(at::equal(of(before, i), of(weights, i)) == !has_gradient);
        // Weights up to 1 in fp32, rounded twice a step.
        CHECK((of(weights, i) - reference[i].weight).abs().max().item<double>() <= 1e-6);
        CHECK((of(adamw.first_moment(), i) - reference[i].first).abs().max().item<double>() <= 2e-7);
        CHECK((of(adamw.second_moment(), i) - reference[i].second).abs().max().item<double>() <= 2e-9);
        CHECK(adamw.updates().of(part_of(table.parameters[i].name)) == reference[i].steps);
      }
    }
    CHECK(adamw.steps_done() == 7);
  }
}

TEST_CASE("AdamW does torch.optim.AdamW's operations") {
  // The reference is the sequence of ATen calls that torch.optim.AdamW makes (single-tensor path), on the
  // same values. ATen's kernels may fuse a multiply and an add, hence one or two units in the last place.
  constexpr std::int64_t kSize = 100'003;
  OptimizerConfig config;
  config.weight_decay = 0.1;
  config.max_grad_norm = 1.0;
  AdamW adamw(one_range(kSize), config);
  at::Tensor weights = at::sin(at::arange(kSize, at::kFloat)), reference = weights.clone();
  at::Tensor first = at::zeros({kSize}, at::kFloat), second = at::zeros({kSize}, at::kFloat);
  for (int step = 1; step <= 4; ++step) {
    const double rate = 1e-3 * step;
    const at::Tensor gradients = at::cos(at::arange(kSize, at::kFloat) * (0.7 * step));
    const double norm = adamw.gradient_norm(gradients);
    CHECK(norm == Approx(gradients.to(at::kDouble).norm().item<double>()).epsilon(1e-12));
    adamw.step(weights, gradients, rate, norm);

    const at::Tensor g = gradients * (1.0 / (norm + 1e-6));
    reference.mul_(1 - rate * 0.1);
    first.lerp_(g, 1 - 0.9);
    second.mul_(0.999).addcmul_(g, g, 1 - 0.999);
    const double bias1 = 1 - std::pow(0.9, step), bias2 = 1 - std::pow(0.999, step);
    reference.addcdiv_(first, (second.sqrt() / std::sqrt(bias2)).add_(1e-8), -(rate / bias1));
    CHECK((weights - reference).abs().max().item<double>() <= 2.4e-7);
    CHECK((adamw.first_moment() - first).abs().max().item<double>() <= 1e-9);
    CHECK((adamw.second_moment() - second).abs().max().item<double>() <= 1e-12);
  }
}

TEST_CASE("norm and update have the same bits at any thread count") {
  constexpr std::int64_t kSize = 300'001;
  const at::Tensor gradients = at::cos(at::arange(kSize, at::kFloat));
  const int before = at::get_num_threads();
  std::vector<at::Tensor> results;
  std::vector<double> norms;
  for (const int threads : {1, 2, 3}) {
    at::set_num_threads(threads);
    AdamW adamw(one_range(kSize), {});
    at::Tensor weights = at::sin(at::arange(kSize, at::kFloat));
    norms.push_back(adamw.gradient_norm(gradients));
    adamw.step(weights, gradients, 1e-3, norms.back());
    results.push_back(weights);
  }
  at::set_num_threads(before);
  for (std::size_t i = 1; i < results.size(); ++i) {
    CHECK(norms[i] == norms[0]);
    CHECK(at::equal(results[i], results[0]));
  }
}

TEST_CASE("learning rates are transformers' get_scheduler's") {
  OptimizerConfig config;
  config.learning_rate = 1e-3;
  config.warmup_steps = 2;
  // Golden: training/training.json, cosine, 2 warm-up steps of 5; its steps carry the rates used.
  const double cosine[] = {0.0, 5e-4, 1e-3, 7.5e-4, 2.5e-4};
  for (std::int64_t step = 0; step < 5; ++step)
    CHECK(learning_rate_at(config, step, 5) == Approx(cosine[step]).epsilon(1e-12));
  config.lr_scheduler_type = "linear";  // (5 - step) / (5 - 2) after warm-up.
  CHECK(learning_rate_at(config, 3, 5) == Approx(1e-3 * 2 / 3));
  CHECK(learning_rate_at(config, 5, 5) == 0.0);
  config.lr_scheduler_type = "constant";
  CHECK(learning_rate_at(config, 1, 5) == Approx(5e-4));
  CHECK(learning_rate_at(config, 4, 5) == 1e-3);
  config.lr_scheduler_type = "step";
  CHECK_THROWS_AS(learning_rate_at(config, 4, 5), Error);
}

TEST_CASE("what decays by name is what transformers' Trainer decays") {
  const auto golden = testing::golden_dir();
  FERRO_SKIP_UNLESS_GOLDEN(golden, "/grpo/e2e");
  const nlohmann::json e2e = testing::read_json(*golden / "manifest.json").at("grpo").at("e2e");
  const nlohmann::json file = testing::read_json(*golden / e2e.at("file").get<std::string>());
  for (const auto& [name, variant] : file.at("variants").items()) {
    const auto decayed = variant.at("weight_decay_applied_to").get<std::vector<std::string>>();
    for (const auto& [tensor, facts] : variant.at("per_tensor").items()) {
      INFO(tensor);
      const bool expected = std::find(decayed.begin(), decayed.end(), tensor) != decayed.end();
      CHECK(parameter_decays({.name = tensor, .shape = {1}}, "huggingface") == expected);
    }
  }
  CHECK_FALSE(parameter_decays({.name = "visual.blocks.0.norm1.weight", .shape = {8}}, "matrices"));
  CHECK(parameter_decays({.name = "model.layers.0.mlp.up_proj.weight", .shape = {8, 8}}, "matrices"));
}

}  // namespace ferro
