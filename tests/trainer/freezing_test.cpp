#include <catch2/catch.hpp>

#include "core/checksum.h"
#include "core/clock.h"
#include "core/error.h"
#include "model/safetensors.h"
#include "tests/trainer/tiny_job.h"
#include "trainer/layer_walk.h"
#include "trainer/optimizer.h"
#include "trainer/sft_step.h"
#include "trainer/trained_model.h"

namespace ferro {
namespace {

using testing::TinyJob;

Model part_model(const TrainedParts& parts) {
  Model model = testing::random_model(testing::tiny_config(), 3, false);
  model.arena.allocate_gradients(TrainedSet::make(
      model.arena.table, [&](const ParameterInfo& info) { return parts.contains(part_of(info.name)); }));
  model.weights = bind_weights(model.config, model.arena);
  return model;
}

void take_gradients(Model& model, LayerWalk::Recompute recompute) {
  const auto world = make_thread_communicators(1);
  const SystemClock clock;
  SftStep step(model, recompute, {192, 193}, {}, 10, *world[0], clock);
  step.gradients(testing::random_batches(model.config));
}

constexpr TrainedParts kChoices[] = {
    {.vision = false},                     // The published recipe: merger and language model.
    {.vision = false, .merger = false},    // Language model only.
    {.merger = false, .language = false},  // Vision tower only, below a frozen language model.
    {.vision = false, .language = false},  // Merger only.
};

}  // namespace

TEST_CASE("what is trained gets the same gradient whatever else is frozen, and frozen parts take no room") {
  for (const auto recompute : {LayerWalk::Recompute::kNone, LayerWalk::Recompute::kFull}) {
    Model whole = part_model({});
    take_gradients(whole, recompute);
    CHECK(whole.arena.gradients.numel() == whole.arena.table.size);
    for (const TrainedParts& parts : kChoices) {
      INFO("vision " << parts.vision << ", merger " << parts.merger << ", language " << parts.language);
      Model model = part_model(parts);
      take_gradients(model, recompute);
      std::int64_t frozen = 0;
      for (const StageInfo& stage : model.arena.table.stages) {
        const auto first = static_cast<std::size_t>(stage.first_parameter);
        if (!parts.contains(part_of(model.arena.table.parameters[first].name)))
          frozen += stage.end - stage.begin;
      }
      CHECK(model.arena.gradients.numel() == model.arena.table.size - frozen);
      for (const ParameterInfo& info : model.arena.table.parameters) {
        INFO(info.name);
        if (!parts.contains(part_of(info.name))) {
          CHECK_THROWS_AS(model.arena.export_gradient(info.name), Error);
          continue;
        }
        const at::Tensor gradient = model.arena.export_gradient(info.name);
        CHECK(at::equal(gradient, whole.arena.export_gradient(info.name)));
        CHECK(gradient.abs().max().item<float>() > 0);
      }
    }
  }
}

TEST_CASE("backward stops, and forward keeps nothing, below the lowest stage that is trained") {
  // Stages that can be kept: two vision blocks, the merger, two decoder blocks, the final norm. The patch
  // embedding and the token embedding keep no graph.
  const std::size_t expected[] = {4, 3, 6, 4};
  for (const auto recompute : {LayerWalk::Recompute::kNone, LayerWalk::Recompute::kFull}) {
    for (std::size_t i = 0; i < std::size(kChoices); ++i) {
      const Model model = part_model(kChoices[i]);
      const auto batches = testing::random_batches(model.config);
      LayerWalk walk(model, recompute);
      const at::Tensor hidden_TD = walk.forward(batches[0], true);
      CHECK(walk.stages_kept() == expected[i]);
      walk.backward(at::ones_like(hidden_TD));
      CHECK(walk.stages_kept() == 0);
      walk.forward(batches[0], false);
      CHECK(walk.stages_kept() == 0);
    }
  }
}

TEST_CASE("an adapter in the upper decoder block alone stops backward there") {
  Model model = testing::random_model(testing::tiny_config(), 3, false);
  LoraConfig config;
  config.r = 4;
  config.target_modules = {"layers.1.mlp.down_proj"};
  attach_adapter(model, std::make_shared<LoraAdapter>(make_lora(model, config, {}, 1)), true);
  const auto batches = testing::random_batches(model.config);
  LayerWalk walk(model, LayerWalk::Recompute::kNone);
  const at::Tensor hidden_TD = walk.forward(batches[0], true);
  CHECK(walk.stages_kept() == 2);
  walk.backward(at::ones_like(hidden_TD));
  // B is zero, so A has no gradient yet, but B has.
  CHECK(model.adapter->arena.export_gradient("model.layers.1.mlp.down_proj.lora_B.weight")
            .abs()
            .max()
            .item<float>() > 0);
}

TEST_CASE("a run with frozen parts keeps their bytes and changes the others") {
  const TinyJob job;
  auto config = job.sft("a");
  config.max_steps = 3;
  config.train.vision = false;
  train_sft(config, job.environment);
  const SafetensorsFile before(job.root() / "base/model.safetensors"),
      after(job.root() / "a/model/model.safetensors");
  for (const auto& [name, entry] : before.entries()) {
    INFO(name);
    const bool same = at::equal(before.tensor(name), after.tensor(name));
    CHECK(same == (part_of(name) == ModelPart::kVision));
  }
}

TEST_CASE("a part's own rate and decay reach that part and no other") {
  const Model model = testing::random_model(testing::tiny_config(), 3, true);
  OptimizerConfig plain;
  plain.learning_rate = 1e-3;
  plain.weight_decay = 0.1;
  OptimizerConfig own = plain;
  own.vision = {.learning_rate = 2e-4, .weight_decay = 0.5};
  own.merger = {.learning_rate = 0};
  OptimizerConfig vision = plain;  // What the vision tower should see.
  vision.learning_rate = 2e-4;
  vision.weight_decay = 0.5;
  const at::Tensor gradients = at::sin(at::arange(model.arena.table.size, at::kFloat));
  const auto after = [&](const OptimizerConfig& config) {
    AdamW adamw(model.arena.table, config);
    at::Tensor weights = model.arena.weights.clone();
    for (std::int64_t step = 0; step < 2; ++step)
      adamw.step(weights, gradients, learning_rate_at(config, step, 4), adamw.gradient_norm(gradients));
    return weights;
  };
  const at::Tensor as_plain = after(plain), as_own = after(own), as_vision = after(vision);
  for (const ParameterInfo& info : model.arena.table.parameters) {
    INFO(info.name);
    const auto of = [&](const at::Tensor& flat) { return flat.narrow(0, info.offset, info.size); };
    switch (part_of(info.name)) {
      case ModelPart::kVision:
        // The rate goes through a quotient: one unit in the last place of the step.
        CHECK((of(as_own) - of(as_vision)).abs().max().item<double>() < 1e-9);
        CHECK_FALSE(at::equal(of(as_own), of(as_plain)));
        break;
      case ModelPart::kMerger:
        CHECK(at::equal(of(as_own), of(model.arena.weights)));
        break;
      case ModelPart::kLanguage:
        CHECK(at::equal(of(as_own), of(as_plain)));
    }
  }
}

}  // namespace ferro
