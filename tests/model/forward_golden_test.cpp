
#include <fmt/format.h>

#include "model/ops.h"
#include "tests/model/golden_case.h"

namespace ferro {
namespace {

using nlohmann::json;
using testing::GoldenCase;
using testing::GoldenSet;

at::Tensor int_tensor(std::span<const std::int32_t> values) {
  const at::Tensor tensor = at::empty({static_cast<std::int64_t>(values.size())}, at::kInt);
  std::copy(values.begin(), values.end(), tensor.data_ptr<std::int32_t>());
  return tensor;
}

at::Tensor long_tensor(std::span<const std::int64_t> values) {
  const at::Tensor tensor = at::empty({static_cast<std::int64_t>(values.size())}, at::kLong);
  std::copy(values.begin(), values.end(), tensor.data_ptr<std::int64_t>());
  return tensor;
}

/// Everything a case's forward pass yields, by the manifest's tensor names; rows without padding one after
/// another.
using Results = std::map<std::string, at::Tensor>;

void run_vision(const Model& model, const GoldenCase& golden, Results& results) {
  const VisionConfig& config = model.config.vision;
  const VisionLayout layout = vision_layout(golden.grids, config, at::kCPU);
  results["window_index"] = long_tensor(layout.window_index);
  results["cu_window_seqlens"] = int_tensor(layout.cu_window_seqlens);
  results["cu_seqlens"] = int_tensor(layout.cu_seqlens);
  const at::Tensor pixels = batch_pixels(golden.batch.images, config.patch_values(), at::kCPU);
  CHECK(pixels.equal(golden.pixels));
  results["patch_embed"] = patch_embed(model.weights.patch_embed, pixels);
  at::Tensor hidden = results["patch_embed"].index_select(0, layout.patch_order);
  for (std::int64_t block = 0; block < config.depth; ++block) {
    hidden = vision_block(model.weights.vision_blocks[static_cast<std::size_t>(block)], hidden, layout,
                          is_full_attention_block(config, block), config);
    results[fmt::format("vision_block_{}_windowed_order", block)] = hidden;
  }
  results["merger_windowed_order"] = merge_patches(model.weights.merger, hidden, config);
  results["vision_output"] = vision_forward(model.weights, pixels, layout, config);
  CHECK(results["vision_output"].equal(
      results["merger_windowed_order"].index_select(0, layout.merged_order_inverse)));
}

void run_text(const Model& model, const GoldenCase& golden, Results& results) {
  const PackedBatch& batch = golden.batch;
  at::Tensor hidden = embed_with_images(model.weights.embedding, batch.tokens, batch.images,
                                        results["vision_output"], model.config.vision.spatial_merge_size);
  results["inputs_embeds"] = hidden;
  const Rotary tables = text_rotary(batch.position_ids, model.config.text, at::kCPU);
  PackedAttention packed(plan_of(batch.segments));
  for (std::size_t block = 0; block < model.weights.decoder_blocks.size(); ++block) {
    hidden = decoder_block(model.weights.decoder_blocks[block], hidden, tables, packed, model.config.text);
    results[fmt::format("decoder_layer_{}", block)] = hidden;
  }
  results["final_norm"] = rms_norm(hidden, model.weights.final_norm, model.config.text.rms_norm_eps);
  const at::Tensor whole = text_forward(model.weights, batch, model.config);
  CHECK(whole.equal(results["final_norm"]));
  results["logits"] = results["logits_unpadded"] = linear(whole, model.weights.head);
}

/// Log-prob of each row's next token.
void add_logprobs(const GoldenCase& golden, Results& results) {
  const at::Tensor all = at::log_softmax(results["logits"], -1);
  std::vector<at::Tensor> rows;
  std::int64_t begin = 0;
  for (const testing::GoldenRow& row : golden.rows) {
    const auto length = static_cast<std::int64_t>(row.prompt.ids.size());
    const at::Tensor next = int_tensor(row.prompt.ids).to(at::kLong).narrow(0, 1, length - 1).unsqueeze(1);
    rows.push_back(all.narrow(0, begin, length - 1).gather(1, next).squeeze(1));
    begin += length;
  }
  results["next_token_logprobs"] = results["next_token_logprobs_unpadded"] = at::cat(rows);
}

/// Positions and deltas are stored padded: each row's own places are compared.
void compare_positions(const std::string& what, const GoldenCase& golden, const at::Tensor& stored) {
  std::int64_t wrong = 0;
  std::size_t places = 0;
  for (std::size_t row = 0; row < golden.rows.size(); ++row) {
    const testing::GoldenRow& own = golden.rows[row];
    places += 3 * own.places.size();
    for (std::size_t axis = 0; axis < 3; ++axis)
      for (std::size_t i = 0; i < own.places.size(); ++i)
        wrong += stored[static_cast<std::int64_t>(axis)][static_cast<std::int64_t>(row)][own.places[i]]
                     .item<std::int64_t>() != own.prompt.positions.ids[axis * own.places.size() + i];
  }
  testing::report_equality(what, places, static_cast<std::size_t>(wrong));
  CHECK(wrong == 0);
}

/// The old rule subtracts the padded length, the new one the row's own.
void compare_deltas(const std::string& what, const GoldenCase& golden, const at::Tensor& stored,
                    std::int64_t padded_length, PositionRule rule) {
  std::size_t different = 0;
  for (std::size_t row = 0; row < golden.rows.size(); ++row) {
    const MropePositions& positions = golden.rows[row].prompt.positions;
    const std::int64_t padding =
        rule == PositionRule::kHub
            ? padded_length - static_cast<std::int64_t>(golden.rows[row].prompt.ids.size())
            : 0;
    INFO(what << " row " << row);
    const std::int64_t expected = stored[static_cast<std::int64_t>(row)][0].item<std::int64_t>();
    CHECK(positions.delta - padding == expected);
    different += positions.delta - padding == expected ? 0 : 1;
  }
  testing::report_equality(what, golden.rows.size(), different);
}

void compare_case(const GoldenSet& set, const std::string& name, const json& entry, const Model& model,
                  PositionRule rule) {
  const at::NoGradGuard no_grad;
  const GoldenCase golden = testing::load_case(set, entry, model.config, rule);
  Results results;
  if (!golden.grids.empty()) run_vision(model, golden, results);
  run_text(model, golden, results);
  add_logprobs(golden, results);
  const json& tolerances = set.manifest().at("forward").at("tolerances");
  const bool legacy = rule == PositionRule::kHub;
  const std::string prefix = legacy ? "legacy_" : "";
  for (const auto& [full_tensor, reference] : entry.at(legacy ? "legacy" : "expected").items()) {
    const std::string tensor = full_tensor.substr(prefix.size());
    const std::string what = fmt::format("forward {} {}", name, full_tensor);
    const at::Tensor stored = set.tensor(reference);
    if (tensor == "position_ids") {
      compare_positions(what, golden, stored);
    } else if (tensor == "rope_deltas") {
      const std::int64_t padded = set.tensor(entry.at("inputs").at("input_ids")).size(1);
      compare_deltas(what, golden, stored, padded, rule);
    } else {
      INFO(what << " is not something this test computes");
      REQUIRE(results.contains(tensor));
      const at::Tensor& got = results.at(tensor);
      const json& tolerance = tolerances.at(reference.at("tolerance").get<std::string>());
      testing::expect_close(what, got, stored.reshape(got.sizes()), tolerance);
    }
  }
}

void compare_all_cases(bool panels) {
  const auto golden = testing::golden_dir();
  FERRO_SKIP_UNLESS_GOLDEN(golden, "/forward/cases");
  const GoldenSet set(*golden);
  const Model model = set.model(panels);
  for (const auto& [name, entry] : set.manifest().at("forward").at("cases").items()) {
    compare_case(set, name, entry, model, PositionRule::kTransformers5);
    if (!entry.at("legacy").empty()) compare_case(set, name, entry, model, PositionRule::kHub);
  }
}

TEST_CASE("on panel weights every forward case agrees with transformers, rows packed into one batch") {
  compare_all_cases(true);
}

TEST_CASE("on plain weights every forward case agrees with transformers, rows packed into one batch") {
  compare_all_cases(false);
}

TEST_CASE("a row's hidden states do not depend on the rows packed with it") {
  const auto golden = testing::golden_dir();
  FERRO_SKIP_UNLESS_GOLDEN(golden, "/forward/cases");
  const at::NoGradGuard no_grad;
  const GoldenSet set(*golden);
  const Model model = set.model(true);
  for (const auto& [name, entry] : set.manifest().at("forward").at("cases").items()) {
    const GoldenCase packed = testing::load_case(set, entry, model.config, PositionRule::kTransformers5);
    const at::Tensor together = text_forward(model.weights, packed.batch, model.config);
    std::int64_t begin = 0;
    std::size_t different = 0;
    for (const testing::GoldenRow& row : packed.rows) {
      BatchPacker packer;
      packer.add_prompt(row.prompt);
      const at::Tensor alone = text_forward(model.weights, packer.finish(), model.config);
      INFO(name);
      const at::Tensor own = together.narrow(0, begin, alone.size(0));
      CHECK(alone.equal(own));
      different += static_cast<std::size_t>(alone.ne(own).sum().item<std::int64_t>());
      begin += alone.size(0);
    }
    testing::report_equality("forward " + name + ", hidden values of each row alone and packed",
                             static_cast<std::size_t>(together.numel()), different);
  }
}

/// Cases whose rows hold the same tokens without their padding, the first padded left and the second right.
std::vector<std::pair<std::string, std::string>> padding_twins(const GoldenSet& set,
                                                               const ModelConfig& config) {
  const json& cases = set.manifest().at("forward").at("cases");
  const auto tokens_of = [&](const json& entry) {
    return testing::load_case(set, entry, config, PositionRule::kTransformers5).batch.tokens;
  };
  std::vector<std::pair<std::string, std::string>> twins;
  for (const auto& [left, left_entry] : cases.items())
    for (const auto& [right, right_entry] : cases.items())
      if (left_entry.at("padding") == "left" && right_entry.at("padding") == "right" &&
          tokens_of(left_entry) == tokens_of(right_entry))
        twins.emplace_back(left, right);
  return twins;
}

TEST_CASE("the side of the padding changes nothing") {
  const auto golden = testing::golden_dir();
  FERRO_SKIP_UNLESS_GOLDEN(golden, "/forward/cases");
  const at::NoGradGuard no_grad;
  const GoldenSet set(*golden);
  const Model model = set.model(true);
  const json& tolerance = set.manifest().at("forward").at("tolerances").at("left_vs_right_padding");
  const auto twins = padding_twins(set, model.config);
  testing::report_equality("forward, cases padded left and right compared", twins.size(), 0);
  for (const auto& [left, right] : twins) {
    at::Tensor logits[2];
    for (const bool second : {false, true}) {
      const json& entry = set.manifest().at("forward").at("cases").at(second ? right : left);
      const GoldenCase loaded = testing::load_case(set, entry, model.config, PositionRule::kTransformers5);
      logits[second] = linear(text_forward(model.weights, loaded.batch, model.config), model.weights.head);
    }
    testing::expect_close("forward " + left + " against " + right, logits[0], logits[1], tolerance);
  }
}

TEST_CASE("window order and sequence borders equal transformers' for every grid and window size") {
  const auto golden = testing::golden_dir();
  FERRO_SKIP_UNLESS_GOLDEN(golden, "/forward/window_index");
  const GoldenSet set(*golden);
  const json& entry = set.manifest().at("forward").at("window_index");
  const json cases = set.json(entry.at("file").get<std::string>());
  REQUIRE(cases.size() == entry.at("cases").get<std::size_t>());
  VisionConfig config = set.model(false).config.vision;
  std::size_t different = 0;
  for (const json& item : cases) {
    INFO(item.at("grid_thw").dump() << " window " << item.at("window_size").dump());
    config.window_size = item.at("window_size").get<std::int64_t>();
    std::vector<GridThw> grids;
    for (const json& grid : item.at("grid_thw")) grids.push_back({grid[0], grid[1], grid[2]});
    const VisionLayout layout = vision_layout(grids, config, at::kCPU);
    const bool same =
        layout.window_index == item.at("window_index").get<std::vector<std::int64_t>>() &&
        layout.cu_window_seqlens == item.at("cu_window_seqlens").get<std::vector<std::int32_t>>() &&
        layout.cu_seqlens == item.at("cu_seqlens").get<std::vector<std::int32_t>>();
    CHECK(same);
    different += same ? 0 : 1;
  }
  testing::report_equality("forward window_index, grids and window sizes", cases.size(), different);
}

}  // namespace
}  // namespace ferro
