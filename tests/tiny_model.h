#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/keyed_random.h"
#include "data/image_input.h"
#include "model/model_folder.h"

namespace ferro::testing {

/// What tests vary of a model that has everything in it: windows and full attention, M-RoPE, grouped queries.
struct TinyShape {
  std::int64_t vision_width = 32, vision_inner = 48;
  std::int64_t width = 64, inner = 96, layers = 2;
  std::vector<std::int64_t> mrope_section{2, 3, 3};  ///< Sums to width / 8.
  std::int64_t vocabulary = 200;
  bool tied = true;
};
struct TinyIds {
  std::int32_t vision_start = 190, vision_end = 191, image = 192, video = 193, begin_and_pad = 194, end = 195;
};

inline ModelConfig tiny_config(const TinyShape& shape = {}, const TinyIds& ids = {}) {
  ModelConfig config;
  config.vision.depth = 2;
  config.vision.hidden_size = shape.vision_width;
  config.vision.intermediate_size = shape.vision_inner;
  config.vision.num_heads = 2;
  config.vision.patch_size = 4;
  config.vision.out_hidden_size = shape.width;
  config.vision.window_size = 16;
  config.vision.fullatt_block_indexes = {1};
  config.text.vocab_size = shape.vocabulary;
  config.text.hidden_size = shape.width;
  config.text.intermediate_size = shape.inner;
  config.text.num_hidden_layers = shape.layers;
  config.text.num_attention_heads = 4;
  config.text.num_key_value_heads = 2;
  config.text.mrope_section = shape.mrope_section;
  config.tie_word_embeddings = shape.tied;
  config.vision_start_token_id = ids.vision_start;
  config.vision_end_token_id = ids.vision_end;
  config.image_token_id = ids.image;
  config.video_token_id = ids.video;
  config.bos_token_id = config.pad_token_id = ids.begin_and_pad;
  config.eos_token_id = ids.end;
  return config;
}

inline Model random_model(const ModelConfig& config, std::uint64_t seed, bool with_gradients,
                          bool panels = true) {
  Model model;
  model.config = config;
  model.arena = ParameterArena::allocate(config, panels, with_gradients);
  initialise(model.arena, config, seed);
  model.weights = bind_weights(config, model.arena);
  return model;
}

inline std::shared_ptr<const ImageInput> random_image(const ModelConfig& config, std::int32_t height,
                                                      std::int32_t width, KeyedRandom& random) {
  auto image = std::make_shared<ImageInput>();
  image->grid = {1, height, width};
  image->patch_values = static_cast<std::int32_t>(config.vision.patch_values());
  image->pixel_values.resize(static_cast<std::size_t>(image->grid.patches() * image->patch_values));
  for (float& value : image->pixel_values) value = static_cast<float>(random.normal());
  return image;
}

}  // namespace ferro::testing
