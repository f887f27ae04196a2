#include "model/arena.h"

#include <catch2/catch.hpp>

#include "tests/core/expect_error.h"
#include "tests/model/small_model.h"

namespace ferro {
namespace {

using testing::small_config;
using testing::small_model;

TEST_CASE("stages cover the flat buffer in the order of the forward walk") {
  const ArenaTable table = ArenaTable::make(small_config(true), true);
  std::vector<std::string> names;
  std::int64_t end = 0;
  std::int32_t parameter = 0;
  for (const StageInfo& stage : table.stages) {
    names.push_back(stage.name);
    CHECK(stage.begin == end);
    CHECK(stage.begin % 64 == 0);
    CHECK(stage.first_parameter == parameter);
    for (std::int32_t i = stage.first_parameter; i < stage.last_parameter; ++i) {
      const ParameterInfo& info = table.parameters[static_cast<std::size_t>(i)];
      CHECK(info.offset >= stage.begin);
      CHECK(info.offset + info.size <= stage.end);
    }
    end = stage.end;
    parameter = stage.last_parameter;
  }
  CHECK(end == table.size);
  CHECK(parameter == static_cast<std::int32_t>(table.parameters.size()));
  CHECK(names == std::vector<std::string>{"patch_embed", "vision_block.0", "vision_block.1", "merger",
                                          "embedding", "decoder_block.0", "decoder_block.1", "head"});
}

TEST_CASE("parameters do not overlap") {
  for (const bool panels : {false, true}) {
    std::int64_t end = 0;
    for (const ParameterInfo& info : ArenaTable::make(small_config(false), panels).parameters) {
      CHECK(info.offset >= end);
      end = info.offset + info.size;
    }
  }
}

TEST_CASE("a matrix of 67 rows takes three panels of 32 and keeps its shape in the count") {
  const ModelConfig config = small_config(true);
  const ArenaTable table = ArenaTable::make(config, true);
  const ParameterInfo& embedding =
      table.parameters[static_cast<std::size_t>(table.by_name.at("model.embed_tokens.weight"))];
  CHECK(embedding.layout == Layout::kPanels);
  CHECK(embedding.size == 96 * 40);
  CHECK(table.num_parameters() == ArenaTable::make(config, false).num_parameters());
}

TEST_CASE("what is imported is exported bit by bit in either layout, and padding stays zero") {
  for (const bool panels : {false, true}) {
    ParameterArena arena = ParameterArena::allocate(small_config(false), panels, false);
    double sum = 0;
    for (const ParameterInfo& info : arena.table.parameters) {
      const at::Tensor value = at::rand(info.shape, at::kFloat) + 1;
      arena.import_parameter(info.name, value);
      CHECK(arena.export_parameter(info.name).equal(value));
      sum += value.sum(at::kDouble).item<double>();
    }
    CHECK(arena.weights.sum(at::kDouble).item<double>() == Approx(sum).epsilon(1e-12));
  }
}

TEST_CASE("element [row, column] of a matrix lies in panel row / 32, line column, lane row % 32") {
  ParameterArena arena = ParameterArena::allocate(small_config(true), true, false);
  const at::Tensor value = at::arange(67 * 40, at::kFloat).view({67, 40});
  arena.import_parameter("model.embed_tokens.weight", value);
  const ModelWeights weights = bind_weights(small_config(true), arena);
  const at::Tensor panels = weights.embedding.weight.value;
  REQUIRE(panels.sizes() == at::IntArrayRef({3, 40, 32}));
  CHECK(panels[1][7][5].item<float>() == 37 * 40 + 7);
  CHECK(panels[2][39][2].item<float>() == 66 * 40 + 39);
  CHECK(panels[2][39][3].item<float>() == 0);
}

TEST_CASE("bfloat16 and float16 values are widened exactly") {
  ParameterArena arena = ParameterArena::allocate(small_config(true), true, false);
  const std::vector<std::int64_t> shape{67, 40};
  for (const at::ScalarType dtype : {at::kBFloat16, at::kHalf, at::kDouble}) {
    const at::Tensor value = at::rand(shape, at::kFloat).to(dtype);
    arena.import_parameter("model.embed_tokens.weight", value);
    CHECK(arena.export_parameter("model.embed_tokens.weight").equal(value.to(at::kFloat)));
  }
}

TEST_CASE("a wrong shape or dtype is refused by name") {
  ParameterArena arena = ParameterArena::allocate(small_config(true), true, false);
  testing::expect_error(ErrorCode::kData,
                        [&] { arena.import_parameter("model.norm.weight", at::zeros({41})); },
                        {"model.norm.weight", "[41]", "[40]"});
  testing::expect_error(ErrorCode::kData,
                        [&] { arena.import_parameter("model.norm.weight", at::zeros({40}, at::kInt)); },
                        {"model.norm.weight", "Int"});
  testing::expect_error(ErrorCode::kInternal, [&] { arena.export_parameter("nothing"); }, {"nothing"});
}

TEST_CASE("a tied head is the embedding's matrix, weights and gradients") {
  const ModelConfig config = small_config(true);
  ParameterArena arena = ParameterArena::allocate(config, true, true);
  const ModelWeights weights = bind_weights(config, arena);
  CHECK(weights.head.weight.value.data_ptr() == weights.embedding.weight.value.data_ptr());
  CHECK(weights.head.weight.grad.data_ptr() == weights.embedding.weight.grad.data_ptr());
  weights.head.weight.grad.fill_(1);
  CHECK(arena.export_gradient("model.embed_tokens.weight").sum().item<float>() == 67 * 40);

  const ModelConfig untied = small_config(false);
  const ParameterArena own = ParameterArena::allocate(untied, true, false);
  const ModelWeights own_weights = bind_weights(untied, own);
  CHECK(own_weights.head.weight.value.data_ptr() != own_weights.embedding.weight.value.data_ptr());
  CHECK_FALSE(own_weights.head.weight.grad.defined());
}

TEST_CASE("initial weights depend on seed and name only, not on layout or other parameters") {
  const Model panels = small_model(true, true, 3), plain = small_model(false, false, 3),
              other = small_model(true, true, 4);
  for (const ParameterInfo& info : panels.arena.table.parameters)
    CHECK(panels.arena.export_parameter(info.name).equal(plain.arena.export_parameter(info.name)));
  CHECK_FALSE(panels.arena.weights.equal(other.arena.weights));
}

TEST_CASE(
    "matrices start with deviation 1/sqrt(fan in), embedding and residual writers smaller, biases at zero, "
    "norms at one") {
  const ModelConfig config = preset_config("tiny", 600);
  ParameterArena arena = ParameterArena::allocate(config, true, false);
  initialise(arena, config, 11);
  // [600, 128]: 76,800 draws, so the sample deviation is within 4 / sqrt(2 * 76800) = 1.1 % of 0.5/sqrt(128).
  const at::Tensor embedding = arena.export_parameter("model.embed_tokens.weight");
  CHECK(embedding.std().item<double>() == Approx(0.5 / std::sqrt(128.0)).epsilon(0.011));
  // [128, 384] each: 49,152 draws, 4 / sqrt(2 * 49152) = 1.3 %.
  const at::Tensor gate = arena.export_parameter("model.layers.0.mlp.gate_proj.weight");
  CHECK(gate.std().item<double>() == Approx(1.0 / std::sqrt(128.0)).epsilon(0.013));
  const at::Tensor down = arena.export_parameter("model.layers.0.mlp.down_proj.weight");
  const double depth = static_cast<double>(config.text.num_hidden_layers);
  CHECK(down.std().item<double>() == Approx(1.0 / std::sqrt(384.0 * 2.0 * depth)).epsilon(0.013));
  CHECK(arena.export_parameter("visual.blocks.0.attn.qkv.bias").count_nonzero().item<std::int64_t>() == 0);
  CHECK(arena.export_parameter("model.norm.weight").eq(1).all().item<bool>());
}

}  // namespace
}  // namespace ferro
