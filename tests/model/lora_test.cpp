#include "model/lora.h"

#include <cstring>
#include <filesystem>
#include <set>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "core/atomic_file.h"
#include "data/packing.h"
#include "model/low_rank.h"
#include "model/qwen.h"
#include "model/safetensors.h"
#include "tests/core/scratch_folder.h"
#include "tests/model/ops_inputs.h"
#include "tests/model/small_model.h"

namespace ferro {
namespace {

using testing::gradients;
using testing::LinearCase;
using testing::random_linear;
using testing::random_tensor;
using testing::relative_difference;
using testing::same_bits;

constexpr double kTolerance = 2e-6;

LoraConfig rank(std::int64_t r) {
  LoraConfig config;
  config.r = r;
  config.alpha = 12;
  return config;
}

void fill(ParameterArena& arena, unsigned seed) {
  for (const ParameterInfo& info : arena.table.parameters)
    arena.import_parameter(info.name, random_tensor(info.shape, seed++, 0.3F));
}

/// A model with an adapter whose B is not zero.
Model adapted_model(const LoraConfig& config, bool tied = false) {
  Model model = testing::small_model(tied, true);
  auto adapter = std::make_shared<LoraAdapter>(make_lora(model, config, {}, 3));
  fill(adapter->arena, 90);
  attach_adapter(model, std::move(adapter), false);
  return model;
}

std::shared_ptr<const Prompt> picture_prompt(const ModelConfig& config) {
  auto image = std::make_shared<ImageInput>();
  image->grid = {1, 4, 4};
  image->patch_values = static_cast<std::int32_t>(config.vision.patch_values());
  const at::Tensor pixels = random_tensor({16 * config.vision.patch_values()}, 8);
  image->pixel_values.assign(pixels.const_data_ptr<float>(), pixels.const_data_ptr<float>() + pixels.numel());
  auto prompt = std::make_shared<Prompt>();
  prompt->ids = {3, 4, config.vision_start_token_id};
  prompt->image_token_begin.push_back(3);
  prompt->ids.insert(prompt->ids.end(), 4, config.image_token_id);
  prompt->ids.push_back(config.vision_end_token_id);
  prompt->ids.push_back(9);
  prompt->images.push_back(image);
  prompt->positions = mrope_positions(prompt->ids, prompt->images, config.vision_tokens());
  return prompt;
}

Model merged(const Model& model) {
  Model result;
  result.config = model.config;
  result.arena = ParameterArena::allocate(model.config, true, false);
  for (const ParameterInfo& info : model.arena.table.parameters)
    result.arena.import_parameter(info.name, merged_parameter(model, info.name));
  result.weights = bind_weights(result.config, result.arena);
  return result;
}

at::Tensor logits_of(const Model& model) {
  const at::NoGradGuard no_grad;
  BatchPacker packer;
  packer.add_row(*picture_prompt(model.config), std::vector<std::int32_t>{5, 6, 7}, false,
                 model.config.vision_tokens());
  return linear(text_forward(model.weights, packer.finish(), model.config), model.weights.head);
}

/// A linear layer of 48 -> 40 with bias and a rank-5 adapter, all with gradients.
struct AdaptedLinear {
  LinearCase base = random_linear(48, 40, true, 1), a = random_linear(48, 5, false, 11),
             b = random_linear(5, 40, false, 21);
  std::shared_ptr<DropoutState> dropout = std::make_shared<DropoutState>();
  LinearWeights weights;

  AdaptedLinear() {
    auto low_rank = std::make_shared<LowRankWeights>();
    low_rank->a = a.panels;
    low_rank->b = b.panels;
    low_rank->scale = 1.7;
    low_rank->layer = 77;
    low_rank->dropout = dropout;
    weights = base.panels;
    weights.adapter = low_rank;
  }
};

}  // namespace

TEST_CASE("an adapted layer agrees with fp64 autograd in value and all gradients, with and without dropout") {
  for (const bool drops : {false, true}) {
    INFO("dropout " << drops);
    AdaptedLinear layer;
    layer.dropout->rate = 0.25;
    layer.dropout->active = drops;
    at::Tensor x = random_tensor({13, 48}, 2).set_requires_grad(true);
    const at::Tensor grad = random_tensor({13, 40}, 3);
    const at::Tensor y = linear(x, layer.weights);
    const at::Tensor dx = gradients(y, {x}, grad)[0];

    const at::Tensor kept = drops ? drop(at::ones({13, 48}), *layer.dropout, 77).to(at::kDouble)
                                  : at::ones({13, 48}, at::kDouble);
    const std::vector<at::Tensor> leaves{
        testing::as_double_leaf(x), testing::as_double_leaf(layer.base.weight),
        testing::as_double_leaf(layer.base.bias), testing::as_double_leaf(layer.a.weight),
        testing::as_double_leaf(layer.b.weight)};
    const at::Tensor expected = leaves[0].mm(leaves[1].t()) + leaves[2] +
                                (leaves[0] * kept).mm(leaves[3].t()).mm(leaves[4].t()) * 1.7;
    CHECK(relative_difference(y, expected) < kTolerance);
    const std::vector<at::Tensor> grads = gradients(expected, leaves, grad.to(at::kDouble));
    CHECK(relative_difference(dx, grads[0]) < kTolerance);
    CHECK(relative_difference(testing::from_panels(layer.base.panels.weight.grad, 40), grads[1]) <
          kTolerance);
    CHECK(relative_difference(layer.base.panels.bias.grad, grads[2]) < kTolerance);
    CHECK(relative_difference(testing::from_panels(layer.a.panels.weight.grad, 5), grads[3]) < kTolerance);
    CHECK(relative_difference(testing::from_panels(layer.b.panels.weight.grad, 40), grads[4]) < kTolerance);
  }
}

TEST_CASE("with a frozen base only the adapter's gradients are written, the same ones") {
  const at::Tensor grad = random_tensor({13, 40}, 3);
  AdaptedLinear whole, frozen;
  frozen.weights.weight.grad.reset();
  frozen.weights.bias.grad.reset();
  std::vector<at::Tensor> dx;
  for (AdaptedLinear* layer : {&whole, &frozen}) {
    at::Tensor x = random_tensor({13, 48}, 2).set_requires_grad(true);
    dx.push_back(gradients(linear(x, layer->weights), {x}, grad)[0]);
  }
  CHECK(same_bits(dx[0], dx[1]));
  CHECK(same_bits(whole.a.panels.weight.grad, frozen.a.panels.weight.grad));
  CHECK(same_bits(whole.b.panels.weight.grad, frozen.b.panels.weight.grad));
  CHECK(frozen.a.panels.weight.grad.abs().max().item<float>() > 0);
  CHECK(frozen.base.panels.weight.grad.abs().max().item<float>() == 0);
}

TEST_CASE("an adapted row has the same bits whatever other rows are computed with it") {
  const AdaptedLinear layer;
  const at::Tensor x = random_tensor({61, 48}, 5), whole = linear(x, layer.weights);
  for (const std::int64_t rows : {1, 2, 7, 33})
    CHECK(same_bits(linear(x.narrow(0, 9, rows), layer.weights), whole.narrow(0, 9, rows)));
}

TEST_CASE("dropout repeats for the same step and pass, and drops its share") {
  DropoutState dropout{.rate = 0.3, .seed = 5, .step = 2, .pass = 1};
  const at::Tensor ones = at::ones({400, 130});
  const at::Tensor first = drop(ones, dropout, 9);
  CHECK(same_bits(first, drop(ones, dropout, 9)));
  CHECK(same_bits(first.narrow(0, 0, 10), drop(ones.narrow(0, 0, 10), dropout, 9)));
  // 52,000 draws: the share's standard deviation is sqrt(.3 * .7 / 52000) = .002.
  CHECK(first.eq(0).to(at::kDouble).mean().item<double>() == Approx(0.3).margin(0.01));
  CHECK(first.max().item<float>() == Approx(1 / 0.7));
  CHECK_FALSE(same_bits(first, drop(ones, dropout, 10)));
  dropout.pass = 2;
  CHECK_FALSE(same_bits(first, drop(ones, dropout, 9)));
  dropout.pass = 1;
  dropout.step = 3;
  CHECK_FALSE(same_bits(first, drop(ones, dropout, 9)));
}

TEST_CASE("a fresh adapter adds nothing, and its A is uniform within 1 / sqrt(in)") {
  Model model = testing::small_model(false, true);
  const at::Tensor before = logits_of(model);
  attach_adapter(model, std::make_shared<LoraAdapter>(make_lora(model, rank(8), {}, 3)), true);
  CHECK(at::equal(logits_of(model), before));
  // kaiming_uniform with a = sqrt(5): sqrt(6 / (1 + 5) / in); 8 x 40 draws reach 0.9 of it.
  const double largest =
      model.adapter->arena.export_parameter("model.layers.0.self_attn.q_proj.lora_A.weight")
          .abs()
          .max()
          .item<double>();
  CHECK(largest <= 1 / std::sqrt(40.0));
  CHECK(largest > 0.9 / std::sqrt(40.0));
  CHECK_FALSE(model.arena.gradients.defined());
  CHECK(model.adapter->arena.gradients.numel() == model.adapter->arena.table.size);
}

TEST_CASE("targets are ends of names in the parts that are trained") {
  const Model model = testing::small_model(false, true);
  const auto modules = [&](std::vector<std::string> targets, TrainedParts parts) {
    LoraConfig config = rank(4);
    config.target_modules = std::move(targets);
    std::set<std::string> names;
    for (const ParameterInfo& info : make_lora(model, config, parts, 1).arena.table.parameters)
      if (info.name.ends_with(".lora_A.weight")) names.insert(info.name);
    return names;
  };
  // Two decoder blocks of q, k, v, o, gate, up, down; two vision blocks of qkv, proj, gate, up, down; the
  // merger's two layers.
  CHECK(modules({"all-linear"}, {}).size() == 2 * 7 + 2 * 5 + 2);
  CHECK(modules({"all-linear"}, {.vision = false}).size() == 2 * 7 + 2);
  CHECK(modules({"all-linear"}, {.vision = false, .merger = false}).size() == 2 * 7);
  CHECK(modules({"q_proj", "v_proj"}, {}).size() == 4);
  CHECK(modules({"up_proj"}, {}).size() == 4);
  CHECK(modules({"lm_head", "merger.mlp.0"}, {}) ==
        std::set<std::string>{"lm_head.lora_A.weight", "visual.merger.mlp.0.lora_A.weight"});
  for (const char* wrong : {"query", "embed_tokens", "roj", "patch_embed.proj"})
    CHECK_THROWS_AS(modules({wrong}, {}), Error);
  CHECK_THROWS_AS(modules({"qkv"}, {.vision = false}), Error);
  LoraConfig head = rank(4);
  head.target_modules = {"lm_head"};
  CHECK_THROWS_AS(make_lora(testing::small_model(true, true), head, {}, 1), Error);
}

TEST_CASE("merging gives the logits of base and adapter, and leaves the model as it was") {
  LoraConfig config = rank(4);
  config.target_modules = {"all-linear", "lm_head"};
  const Model model = adapted_model(config);
  const at::Tensor unmerged = logits_of(model), weights = model.arena.weights.clone();
  const Model base = base_of(model);
  CHECK(base.arena.weights.is_same(model.arena.weights));
  CHECK(relative_difference(logits_of(base), unmerged) > 0.01);
  CHECK(relative_difference(logits_of(merged(model)), unmerged) < 1e-5);
  CHECK(same_bits(model.arena.weights, weights));
}

TEST_CASE("an adapter survives its folder in PEFT's layout") {
  const testing::ScratchFolder scratch;
  const auto folder = scratch.path() / "adapter";
  LoraConfig config = rank(4);
  config.dropout = 0.125;
  const Model model = adapted_model(config, true);
  save_adapter(model, folder, "the/base");
  const auto json = nlohmann::json::parse(read_file(folder / "adapter_config.json"));
  CHECK(json.at("peft_type") == "LORA");
  CHECK(json.at("r") == 4);
  CHECK(json.at("lora_alpha") == 12);
  CHECK(json.at("base_model_name_or_path") == "the/base");
  const auto targets = json.at("target_modules").get<std::set<std::string>>();
  CHECK(targets.size() == 26);
  CHECK(targets.contains("layers.1.self_attn.q_proj"));
  CHECK(targets.contains("visual.blocks.0.attn.qkv"));
  const SafetensorsFile file(folder / "adapter_model.safetensors");
  CHECK(file.entries().size() == 2 * 26);
  const std::string q = "base_model.model.model.language_model.layers.0.self_attn.q_proj.lora_A.weight";
  REQUIRE(file.contains(q));
  CHECK(file.entries().at(q).shape == std::vector<std::int64_t>{4, 40});
  CHECK(file.contains("base_model.model.model.visual.merger.mlp.2.lora_B.weight"));

  Model again = testing::small_model(true, true);
  attach_adapter(again, std::make_shared<LoraAdapter>(load_adapter(folder, again)), false);
  CHECK(again.adapter->config.dropout == 0.125);
  CHECK(same_bits(again.adapter->arena.weights, model.adapter->arena.weights));
  CHECK(same_bits(logits_of(again), logits_of(model)));
  save_adapter(model, folder, "the/base");  // An adapter is replaced.
}

TEST_CASE("adapters of another kind, or for another base, are refused") {
  const testing::ScratchFolder scratch;
  const auto folder = scratch.path() / "adapter";
  const Model model = adapted_model(rank(4));
  save_adapter(model, folder, "");
  const auto rewritten = [&](const char* key, const nlohmann::json& value) {
    nlohmann::json json = nlohmann::json::parse(read_file(folder / "adapter_config.json"));
    json[key] = value;
    write_file_atomically(folder / "adapter_config.json", json.dump());
  };
  for (const auto& [key, wrong, right] : std::vector<std::tuple<const char*, nlohmann::json, nlohmann::json>>{
           {"peft_type", "IA3", "LORA"},
           {"use_dora", true, false},
           {"use_rslora", true, false},
           {"rank_pattern", {{"q_proj", 2}}, nlohmann::json::object()},
           {"modules_to_save", {"lm_head"}, nullptr},
           {"bias", "all", "none"},
           {"r", 3, 4},
           {"r", 0, 4},
           {"lora_alpha", nullptr, 12}}) {
    INFO(key);
    rewritten(key, wrong);
    CHECK_THROWS_AS(load_adapter(folder, model), Error);
    rewritten(key, right);
  }
  CHECK_NOTHROW(load_adapter(folder, model));
  ModelConfig other = testing::small_config(false);
  other.text.num_hidden_layers = 1;
  Model shallow;
  shallow.config = other;
  shallow.arena = ParameterArena::allocate(other, true, false);
  CHECK_THROWS_AS(load_adapter(folder, shallow), Error);
  create_folders(scratch.path() / "thesis");
  write_file_atomically(scratch.path() / "thesis" / "chapter.txt", "years of work");
  CHECK_THROWS_AS(save_adapter(model, scratch.path() / "thesis", ""), Error);
}

TEST_CASE("a trained set of everything lies as the weights do, and a part's takes its own room only") {
  const ArenaTable table = ArenaTable::make(testing::small_config(true), true);
  const TrainedSet all = TrainedSet::make(table, [](const ParameterInfo&) { return true; });
  CHECK(all.offsets == TrainedSet::all(table).offsets);
  CHECK(all.size == table.size);
  std::int64_t vision = 0;
  for (const StageInfo& stage : table.stages)
    if (stage.kind == StageKind::kPatchEmbed || stage.kind == StageKind::kVisionBlock)
      vision += stage.end - stage.begin;
  const TrainedSet rest = TrainedSet::make(
      table, [](const ParameterInfo& info) { return part_of(info.name) != ModelPart::kVision; });
  CHECK(rest.size == table.size - vision);
}

}  // namespace ferro
