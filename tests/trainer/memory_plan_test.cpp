#include "trainer/memory_plan.h"

#include <catch2/catch.hpp>

#include "core/error.h"
#include "model/arena.h"
#include "model/lora.h"
#include "tests/trainer/tiny_model.h"
#include "trainer/optimizer.h"

namespace ferro {
namespace {

std::int64_t bytes_of(const std::vector<MemoryPlan::Line>& lines, const std::string& name) {
  for (const MemoryPlan::Line& line : lines)
    if (line.name == name) return line.bytes;
  FAIL("no line " << name);
  return 0;
}

std::int64_t bytes_of(const at::Tensor& tensor) {
  return tensor.defined() ? static_cast<std::int64_t>(tensor.nbytes()) : 0;
}

/// The arenas and moments of a run, allocated.
void check_against_arenas(const PlanSettings& settings) {
  const ModelConfig config = testing::tiny_config();
  Model model = testing::random_model(config, 1, false);
  ParameterArena* trained = &model.arena;
  if (settings.lora.enabled()) {
    attach_adapter(model, std::make_shared<LoraAdapter>(make_lora(model, settings.lora, settings.train, 1)),
                   true);
    trained = &model.adapter->arena;
  } else {
    model.arena.allocate_gradients(TrainedSet::make(model.arena.table, [&](const ParameterInfo& info) {
      return settings.train.contains(part_of(info.name));
    }));
  }
  OptimizerConfig optimizer;
  optimizer.state_dtype = settings.state_dtype;
  AdamW adamw(trained->table, trained->trained, optimizer, 1);
  adamw.step(trained->weights, trained->gradients, 1e-3, 1);
  const MemoryPlan plan = plan_memory(config, settings);
  CHECK(bytes_of(plan.lasting, "weights") == bytes_of(model.arena.weights));
  CHECK(bytes_of(plan.lasting, "adapter") == (model.adapter ? bytes_of(model.adapter->arena.weights) : 0));
  CHECK(bytes_of(plan.lasting, "gradients") == bytes_of(trained->gradients));
  // Blocks of 8-bit moments end where neighbours with other settings begin, so a plan may count a few more.
  CHECK(bytes_of(plan.lasting, "optimizer") == Approx(adamw.state_bytes()).epsilon(0.01));
}

ModelConfig seven_billion() {
  ModelConfig config;
  config.vision.out_hidden_size = config.text.hidden_size;
  return config;
}

}  // namespace

TEST_CASE("a plan's weights, gradients and moments are what a run allocates") {
  PlanSettings settings;
  check_against_arenas(settings);
  settings.train.vision = false;
  check_against_arenas(settings);
  settings.state_dtype = "int8";
  check_against_arenas(settings);
  settings.lora.r = 4;
  check_against_arenas(settings);
}

TEST_CASE("a plan for seven billion parameters needs no memory of that size") {
  PlanSettings settings;
  settings.tokens = 8192;
  settings.recompute = true;
  settings.targets = 4096;
  const MemoryPlan plan = plan_memory(seven_billion(), settings);
  // 8.29e9 parameters of 4 bytes, panels padded by less than a hundredth.
  CHECK(static_cast<double>(bytes_of(plan.lasting, "weights")) == Approx(4 * 8.292e9).epsilon(0.01));
  CHECK(bytes_of(plan.lasting, "optimizer") == 2 * bytes_of(plan.lasting, "gradients"));
  settings.lora.r = 64;
  const MemoryPlan adapted = plan_memory(seven_billion(), settings);
  CHECK(adapted.peak() < plan.peak() / 2);
}

TEST_CASE("ranks that share the moments hold a part of them each, and everything else whole") {
  SftConfig config;
  PlanSettings settings = plan_settings(config, {.prompt = 80, .image = 64, .answer = 20}, 4);
  const MemoryPlan whole = plan_memory(seven_billion(), settings);
  config.ranks.shard = "optimizer";
  settings = plan_settings(config, {.prompt = 80, .image = 64, .answer = 20}, 4);
  const MemoryPlan shared = plan_memory(seven_billion(), settings);
  CHECK(bytes_of(shared.lasting, "optimizer") == bytes_of(whole.lasting, "optimizer") / 4);
  CHECK(whole.peak() - shared.peak() == bytes_of(whole.lasting, "optimizer") * 3 / 4);
}

TEST_CASE("the head's share of a plan grows with the vocabulary only by the rows of a chunk") {
  PlanSettings settings;
  settings.tokens = 100'000;
  settings.targets = 90'000;
  const auto head = [&](std::int64_t vocabulary) {
    ModelConfig config = seven_billion();
    config.text.vocab_size = vocabulary;
    return bytes_of(plan_memory(config, settings).parts, "head");
  };
  CHECK(head(152'064) - head(76'032) == 1024 * 76'032 * 4);
}

TEST_CASE("a plan's micro-batch is what the configuration packs") {
  SftConfig sft;
  sft.per_device_train_batch_size = 6;
  sft.gradient_accumulation_steps = 2;
  const RowShape rows{.prompt = 80, .image = 64, .answer = 20};
  CHECK(plan_settings(sft, rows).tokens == 600);
  sft.max_tokens_per_micro_batch = 450;
  CHECK(plan_settings(sft, rows).tokens == 400);
  CHECK(plan_settings(sft, rows).image_tokens == 4 * 64);
  CHECK(plan_settings(sft, rows).targets == 80);
  sft.loss_on = "all";
  CHECK(plan_settings(sft, rows).targets == 4 * 35);  // 100 - 64 placeholders - the first token.
  sft.max_tokens_per_micro_batch = 50;                // A row above the budget goes alone.
  CHECK(plan_settings(sft, rows).tokens == 100);

  GrpoConfig grpo;
  grpo.num_generations = 8;
  grpo.prompts_per_step = 5;
  grpo.max_tokens_per_micro_batch = 500;  // A group has 80 + 8 * 20.
  CHECK(plan_settings(grpo, rows).tokens == 2 * 240);
  grpo.max_tokens_per_micro_batch = 150;  // Split: the prompt and three answers.
  CHECK(plan_settings(grpo, rows).tokens == 140);
  CHECK(plan_settings(grpo, rows).second_model == (grpo.loss.beta > 0));
  grpo.loss.beta = 0.1;
  CHECK(plan_settings(grpo, rows).second_model);
  grpo.lora.r = 8;
  CHECK_FALSE(plan_settings(grpo, rows).second_model);
}

}  // namespace ferro
