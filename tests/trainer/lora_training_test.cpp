#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "core/clock.h"
#include "model/safetensors.h"
#include "rollout/engine.h"
#include "tests/trainer/tiny_job.h"
#include "trainer/policy_setup.h"
#include "trainer/score.h"
#include "trainer/sft_step.h"
#include "trainer/trained_model.h"

namespace ferro {
namespace {

using nlohmann::json;
using testing::lines_of;
using testing::TinyJob;

LoraConfig rank(std::int64_t r) {
  LoraConfig config;
  config.r = r;
  return config;
}

/// An adapter whose B is not zero, with gradients.
Model adapted_model(double dropout) {
  Model model = testing::random_model(testing::tiny_config(), 3, false);
  LoraConfig config = rank(4);
  config.dropout = dropout;
  auto adapter = std::make_shared<LoraAdapter>(make_lora(model, config, {}, 5));
  KeyedRandom random(6, RandomPurpose::kTest, {1});
  for (const ParameterInfo& info : adapter->arena.table.parameters) {
    const at::Tensor value = at::empty(info.shape, at::kFloat);
    for (std::int64_t i = 0; i < value.numel(); ++i)
      value.mutable_data_ptr<float>()[i] = static_cast<float>(0.1 * random.normal());
    adapter->arena.import_parameter(info.name, value);
  }
  attach_adapter(model, std::move(adapter), true);
  return model;
}

}  // namespace

TEST_CASE("a gradient of the adapter is the slope of the loss") {
  Model model = adapted_model(0);
  ParameterArena& arena = model.adapter->arena;
  const auto world = make_thread_communicators(1);
  const SystemClock clock;
  SftStep step(model, LayerWalk::Recompute::kNone, {192, 193}, {}, 10, *world[0], clock);
  const auto batches = testing::random_batches(model.config);
  step.gradients(batches);
  const at::Tensor gradients = arena.gradients.clone();
  for (const char* name :
       {"visual.blocks.0.attn.qkv.lora_A.weight", "visual.merger.mlp.0.lora_B.weight",
        "model.layers.0.self_attn.k_proj.lora_A.weight", "model.layers.1.mlp.down_proj.lora_B.weight"}) {
    INFO(name);
    // Central differences along the gradient, in fp32.
    const ParameterInfo& info =
        arena.table.parameters[static_cast<std::size_t>(arena.table.by_name.at(name))];
    at::Tensor weights = arena.weights.narrow(0, info.offset, info.size);
    const at::Tensor gradient = gradients.narrow(0, info.offset, info.size);
    const double norm = gradient.norm().item<double>(), length = 2e-2;
    weights.add_(gradient, length / norm);
    const double above = step.gradients(batches).reduced.loss;
    weights.sub_(gradient, 2 * length / norm);
    const double below = step.gradients(batches).reduced.loss;
    weights.add_(gradient, length / norm);
    CHECK((above - below) / (2 * length) == Approx(norm).epsilon(0.03));
  }
}

TEST_CASE("recomputing a stage draws the same dropout as its forward did") {
  std::vector<at::Tensor> gradients;
  std::vector<double> losses;
  for (const auto recompute : {LayerWalk::Recompute::kNone, LayerWalk::Recompute::kFull}) {
    Model model = adapted_model(0.2);
    const auto world = make_thread_communicators(1);
    const SystemClock clock;
    OptimizerConfig optimizer;
    optimizer.lr_scheduler_type = "constant";
    optimizer.learning_rate = 0;
    SftStep step(model, recompute, {192, 193}, optimizer, 10, *world[0], clock);
    for (int i = 0; i < 2; ++i) {
      SftStep::Outcome outcome = step.gradients(testing::random_batches(model.config));
      losses.push_back(outcome.reduced.loss);
      gradients.push_back(model.adapter->arena.gradients.clone());
      step.apply(outcome);
    }
    CHECK_FALSE(model.adapter->dropout->active);
  }
  CHECK(losses[0] == losses[2]);
  CHECK(losses[1] == losses[3]);
  CHECK(losses[0] != losses[1]);  // The same weights, another step: other draws.
  CHECK(at::equal(gradients[0], gradients[2]));
  CHECK(at::equal(gradients[1], gradients[3]));
}

TEST_CASE("with an adapter the engine's log-probs are the trainer's, bit for bit") {
  const TinyJob job;
  Model model = load_trained_model(job.root() / "base", {}, rank(4), 3);
  model.adapter->arena.weights.normal_(0, 0.05);
  const Tokenizer tokenizer = Tokenizer::load(job.root() / "base");
  RolloutEngine engine(model, tokenizer, {.seed = 2, .kv_cache_tokens = 4096});
  RolloutEngine base_engine(base_of(model), tokenizer, {.seed = 2, .kv_cache_tokens = 4096});
  SamplingParams sampling;
  sampling.temperature = 0.9;
  sampling.max_completion_length = 20;
  sampling.stop_ids = model.config.stop_ids();
  sampling.banned_ids = banned_ids_of(model.config);
  std::size_t compared = 0;
  for (std::uint64_t i = 0; i < 3; ++i) {
    auto prompt = std::make_shared<Prompt>(*testing::random_prompt(testing::tiny_config(), i, 5));
    prompt->images.clear();
    prompt->image_token_begin.clear();
    prompt->ids.resize(5 + i);
    prompt->positions = mrope_positions(prompt->ids, prompt->images, model.config.vision_tokens());
    engine.submit({.sample_id = static_cast<std::int64_t>(i),
                   .epoch = 0,
                   .num_generations = 3,
                   .prompt = prompt,
                   .sampling = sampling});
  }
  while (const auto group = engine.receive()) {
    std::vector<std::vector<std::int32_t>> answers;
    for (const Completion& completion : group->completions) answers.push_back(completion.token_ids);
    const auto scored = score_answers(model, *group->request.prompt, answers, sampling.temperature);
    const auto base = score_answers(base_of(model), *group->request.prompt, answers, sampling.temperature);
    for (std::size_t a = 0; a < answers.size(); ++a) {
      CHECK(group->completions[a].logprobs == scored[a].logprobs);
      CHECK(group->completions[a].logprobs != base[a].logprobs);
      compared += answers[a].size();
    }
  }
  CHECK(compared > 20);
}

TEST_CASE("SFT with an adapter trains it alone, repeats exactly, and saves it merged and in PEFT's layout") {
  const TinyJob job;
  auto config = job.sft("a");
  config.num_train_epochs = 8;
  config.lora = rank(4);
  config.lora.dropout = 0.1;
  config.eval_steps = 12;
  train_sft(config, job.environment);
  config.output_dir = (job.root() / "b").string();
  config.recompute = "full";
  train_sft(config, job.environment);
  CHECK(job.read("a/metrics.jsonl") == job.read("b/metrics.jsonl"));
  CHECK(job.read("a/adapter/adapter_model.safetensors") == job.read("b/adapter/adapter_model.safetensors"));
  CHECK(std::filesystem::exists(job.root() / "a/best/model.safetensors"));
  CHECK(std::filesystem::exists(job.root() / "a/best_adapter/adapter_config.json"));
  const auto lines = lines_of(job.read("a/metrics.jsonl"));
  CHECK(lines[21].at("loss").get<double>() < 0.8 * lines[0].at("loss").get<double>());

  // model/ is base and adapter in one; norms and embedding are the base's bytes.
  const SafetensorsFile base(job.root() / "base/model.safetensors"),
      model(job.root() / "a/model/model.safetensors");
  Model again = load_model(job.root() / "base", false);
  attach_adapter(again, std::make_shared<LoraAdapter>(load_adapter(job.root() / "a/adapter", again)), false);
  for (const auto& [name, entry] : base.entries()) {
    INFO(name);
    const std::string module = name.substr(0, name.rfind('.'));
    const bool adapted =
        again.adapter->arena.table.by_name.contains(module + ".lora_A.weight") && name.ends_with(".weight");
    CHECK(at::equal(base.tensor(name), model.tensor(name)) != adapted);
    CHECK(at::equal(merged_parameter(again, name), model.tensor(name)));
  }

  // Continuing: the first loss is where the run before ended, not where the base began.
  config.output_dir = (job.root() / "c").string();
  config.lora = {};
  config.lora.adapter_name_or_path = (job.root() / "a/adapter").string();
  config.lora.save_merged = false;
  config.max_steps = 1;
  train_sft(config, job.environment);
  CHECK(lines_of(job.read("c/metrics.jsonl"))[0].at("loss").get<double>() <
        0.8 * lines[0].at("loss").get<double>());
  CHECK_FALSE(std::filesystem::exists(job.root() / "c/model"));
  CHECK(std::filesystem::exists(job.root() / "c/adapter"));
}

TEST_CASE("GRPO with an adapter samples and trains through it, and takes the base as the reference") {
  const TinyJob job;
  train_sft(job.sft("cold"), job.environment);
  auto config = job.grpo("a", "cold/model");
  config.lora = rank(8);
  config.lora.target_modules = {"q_proj", "v_proj", "mlp.down_proj"};
  config.optimizer.learning_rate = 1e-2;
  config.optimizer.lr_scheduler_type = "constant";
  train_grpo(config, job.environment);
  const auto lines = lines_of(job.read("a/metrics.jsonl"));
  REQUIRE(lines.size() == 4);
  for (const json& line : lines) {
    CHECK(line.at("sampling/sampling_logp_difference/max").get<double>() == 0.0);
    CHECK(line.contains("grad_norm/decoder"));
    CHECK_FALSE(line.contains("grad_norm/embedding"));
  }
  // A fresh adapter adds nothing, so the first step's policy is the reference; the later ones are not.
  CHECK(lines[0].at("kl").get<double>() == 0.0);
  CHECK(lines[3].at("kl").get<double>() > 0.0);
  Model base = load_model(job.root() / "cold/model", false);
  attach_adapter(base, std::make_shared<LoraAdapter>(load_adapter(job.root() / "a/adapter", base)), false);
  // Two vision blocks and two decoder blocks have a down_proj; q and v are the decoder's.
  CHECK(base.adapter->arena.table.parameters.size() == 2 * (2 + 2 + 4));
  const Model merged_model = load_model(job.root() / "a/model", false);
  for (const char* name :
       {"model.embed_tokens.weight", "model.layers.0.self_attn.k_proj.weight", "model.norm.weight"})
    CHECK(at::equal(merged_model.arena.export_parameter(name), base.arena.export_parameter(name)));
  CHECK_FALSE(at::equal(merged_model.arena.export_parameter("model.layers.0.self_attn.q_proj.weight"),
                        base.arena.export_parameter("model.layers.0.self_attn.q_proj.weight")));
}

}  // namespace ferro
