#include "tests/bench/step_work.h"

#include <memory>
#include <set>

#include <nlohmann/json.hpp>

#include "core/atomic_file.h"
#include "core/error.h"
#include "core/keyed_random.h"

namespace ferro::bench {
namespace {

constexpr std::size_t kPrompts = 4, kAnswers = 8;
constexpr std::int64_t kAnswerTokens = 64, kSftTokens = 256;
constexpr std::int32_t kSpecialTokens = 8;  // The last of the vocabulary: never sampled by the peer either.

KeyedRandom random_of(std::uint64_t kind, std::uint64_t index) {
  return KeyedRandom(1, RandomPurpose::kTest, {kind, index});
}

std::shared_ptr<const ImageInput> noise_image(const ModelConfig& config, GridThw grid, std::uint64_t index) {
  auto image = std::make_shared<ImageInput>();
  image->grid = grid;
  image->patch_values = static_cast<std::int32_t>(config.vision.patch_values());
  KeyedRandom random = random_of(0, index);
  image->pixel_values.resize(
      static_cast<std::size_t>(grid.patches() * static_cast<std::int64_t>(image->patch_values)));
  for (float& value : image->pixel_values) value = static_cast<float>(random.uniform(-1.8, 2.1));
  return image;
}

std::vector<std::int32_t> random_tokens(const ModelConfig& config, std::int64_t count, std::uint64_t index) {
  KeyedRandom random = random_of(1, index);
  std::vector<std::int32_t> ids(static_cast<std::size_t>(count));
  const auto usual = static_cast<std::uint64_t>(config.text.vocab_size - kSpecialTokens);
  for (std::int32_t& id : ids) id = static_cast<std::int32_t>(random.below(usual));
  return ids;
}

double linear_flops(std::int64_t rows, std::int64_t in, std::int64_t out) {
  return 2.0 * static_cast<double>(rows) * static_cast<double>(in) * static_cast<double>(out);
}

}  // namespace

StepWork load_step_work(const std::filesystem::path& folder) {
  StepWork work;
  work.name = folder.filename().string();
  work.config = ModelConfig::load(folder / "config.json");
  const auto json = nlohmann::json::parse(read_file(folder / "work.json"));
  const auto ids = json.at("prompt_ids").get<std::vector<std::int32_t>>();
  const auto grid = json.at("grid_thw").get<std::vector<std::int32_t>>();
  for (std::size_t p = 0; p < kPrompts; ++p) {
    auto prompt = std::make_shared<Prompt>();
    prompt->ids = ids;
    prompt->images = {noise_image(work.config, {grid.at(0), grid.at(1), grid.at(2)}, p)};
    for (std::size_t i = 0; i < ids.size() && prompt->image_token_begin.empty(); ++i)
      if (ids[i] == work.config.image_token_id)
        prompt->image_token_begin.push_back(static_cast<std::int32_t>(i));
    prompt->positions = mrope_positions(prompt->ids, prompt->images, work.config.vision_tokens());
    work.prompts.push_back(prompt);
  }
  return work;
}

std::vector<AnsweredPrompt> grpo_groups(const StepWork& work) {
  std::vector<AnsweredPrompt> groups;
  for (std::size_t p = 0; p < kPrompts; ++p) {
    AnsweredPrompt group{work.prompts[p], {}};
    for (std::size_t a = 0; a < kAnswers; ++a)
      group.answers.push_back(random_tokens(work.config, kAnswerTokens, p * kAnswers + a));
    groups.push_back(std::move(group));
  }
  return groups;
}

PackedBatch sft_batch(const StepWork& work) {
  BatchPacker packer;
  for (std::size_t p = 0; p < kPrompts; ++p) {
    const auto length = static_cast<std::int64_t>(work.prompts[p]->ids.size());
    FERRO_CHECK(length < kSftTokens, "a prompt of {} tokens", length);
    packer.add_row(*work.prompts[p], random_tokens(work.config, kSftTokens - length, 1000 + p), false,
                   work.config.vision_tokens());
  }
  return packer.finish();
}

double forward_flops(const ModelConfig& config, const PackedBatch& batch) {
  const VisionConfig& v = config.vision;
  const TextConfig& t = config.text;
  std::int64_t patches = 0;
  for (const PackedImage& image : batch.images) patches += image.image->grid.patches();
  const std::int64_t merge = v.spatial_merge_size * v.spatial_merge_size, merged = patches / merge;
  const std::int64_t wide = v.hidden_size * merge;
  double flops = linear_flops(patches, v.patch_values(), v.hidden_size);
  flops += static_cast<double>(v.depth) * (linear_flops(patches, v.hidden_size, 4 * v.hidden_size) +
                                           3 * linear_flops(patches, v.hidden_size, v.intermediate_size));
  flops += linear_flops(merged, wide, wide) + linear_flops(merged, wide, v.out_hidden_size);
  const auto rows = static_cast<std::int64_t>(batch.tokens.size());
  const std::int64_t query = t.num_attention_heads * t.head_dim(),
                     keys = t.num_key_value_heads * t.head_dim();
  flops += static_cast<double>(t.num_hidden_layers) *
           (linear_flops(rows, t.hidden_size, query + 2 * keys) + linear_flops(rows, query, t.hidden_size) +
            3 * linear_flops(rows, t.hidden_size, t.intermediate_size));
  // Targets of one row share its logits.
  std::set<std::int32_t> head_rows;
  for (const Target& target : batch.targets) head_rows.insert(target.row);
  return flops + linear_flops(static_cast<std::int64_t>(head_rows.size()), t.hidden_size, t.vocab_size);
}

}  // namespace ferro::bench
