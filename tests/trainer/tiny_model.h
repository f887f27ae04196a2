#pragma once

#include <memory>
#include <vector>

#include "core/keyed_random.h"
#include "data/packing.h"
#include "model/model_folder.h"

namespace ferro::testing {

/// The architecture with everything in it (windows, full attention, M-RoPE, grouped queries), a few ten
/// thousand parameters.
inline ModelConfig tiny_config() {
  ModelConfig config;
  config.vision.depth = 2;
  config.vision.hidden_size = 32;
  config.vision.intermediate_size = 48;
  config.vision.num_heads = 2;
  config.vision.patch_size = 4;
  config.vision.out_hidden_size = 64;
  config.vision.window_size = 16;
  config.vision.fullatt_block_indexes = {1};
  config.text.vocab_size = 200;
  config.text.hidden_size = 64;
  config.text.intermediate_size = 96;
  config.text.num_hidden_layers = 2;
  config.text.num_attention_heads = 4;
  config.text.num_key_value_heads = 2;
  config.text.mrope_section = {2, 3, 3};
  config.tie_word_embeddings = true;
  config.vision_start_token_id = 190;
  config.vision_end_token_id = 191;
  config.image_token_id = 192;
  config.video_token_id = 193;
  config.bos_token_id = 194;
  config.pad_token_id = 194;
  config.eos_token_id = 195;
  return config;
}

inline Model random_model(const ModelConfig& config, std::uint64_t seed, bool with_gradients) {
  Model model;
  model.config = config;
  model.arena = ParameterArena::allocate(config, true, with_gradients);
  initialise(model.arena, config, seed);
  model.weights = bind_weights(config, model.arena);
  return model;
}

inline std::shared_ptr<const ImageInput> random_image(const ModelConfig& config, std::int32_t height,
                                                      std::int32_t width, std::uint64_t key) {
  auto image = std::make_shared<ImageInput>();
  image->grid = {1, height, width};
  image->patch_values = static_cast<std::int32_t>(config.vision.patch_values());
  KeyedRandom random(7, RandomPurpose::kTest, {key});
  for (std::int64_t i = 0; i < image->grid.patches() * image->patch_values; ++i)
    image->pixel_values.push_back(static_cast<float>(random.normal()));
  return image;
}

/// Some text, one image, some text. `key` picks tokens and pixels.
inline std::shared_ptr<const Prompt> random_prompt(const ModelConfig& config, std::uint64_t key,
                                                   std::int32_t text_tokens) {
  KeyedRandom random(8, RandomPurpose::kTest, {key});
  auto prompt = std::make_shared<Prompt>();
  const auto add_text = [&](std::int32_t count) {
    for (std::int32_t i = 0; i < count; ++i)
      prompt->ids.push_back(static_cast<std::int32_t>(random.below(190)));
  };
  add_text(text_tokens);
  prompt->images.push_back(random_image(config, 4, 6, key));
  prompt->ids.push_back(config.vision_start_token_id);
  prompt->image_token_begin.push_back(static_cast<std::int32_t>(prompt->ids.size()));
  prompt->ids.insert(prompt->ids.end(), 6, config.image_token_id);
  prompt->ids.push_back(config.vision_end_token_id);
  add_text(text_tokens);
  prompt->positions = mrope_positions(prompt->ids, prompt->images, config.vision_tokens());
  return prompt;
}

inline std::vector<std::int32_t> random_answer(std::uint64_t key, std::int64_t length) {
  KeyedRandom random(9, RandomPurpose::kTest, {key});
  std::vector<std::int32_t> ids;
  for (std::int64_t i = 0; i < length; ++i) ids.push_back(static_cast<std::int32_t>(random.below(190)));
  return ids;
}

}  // namespace ferro::testing
