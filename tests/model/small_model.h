#pragma once

#include "model/model_folder.h"

namespace ferro::testing {

/// A model of a few thousand parameters whose widths are no multiples of a panel.
inline ModelConfig small_config(bool tied) {
  ModelConfig config;
  config.vision.depth = 2;
  config.vision.hidden_size = 24;
  config.vision.intermediate_size = 36;
  config.vision.num_heads = 2;
  config.vision.patch_size = 4;
  config.vision.out_hidden_size = 40;
  config.vision.window_size = 16;
  config.vision.fullatt_block_indexes = {1};
  config.text.vocab_size = 67;
  config.text.hidden_size = 40;
  config.text.intermediate_size = 50;
  config.text.num_hidden_layers = 2;
  config.text.num_attention_heads = 4;
  config.text.num_key_value_heads = 2;
  config.text.mrope_section = {1, 2, 2};
  config.tie_word_embeddings = tied;
  config.image_token_id = 60;
  config.video_token_id = 61;
  config.vision_start_token_id = 62;
  config.vision_end_token_id = 63;
  config.bos_token_id = config.pad_token_id = 64;
  config.eos_token_id = 65;
  return config;
}

inline Model small_model(bool tied, bool panels, std::uint64_t seed = 7) {
  Model model;
  model.config = small_config(tied);
  model.arena = ParameterArena::allocate(model.config, panels, false);
  initialise(model.arena, model.config, seed);
  model.weights = bind_weights(model.config, model.arena);
  return model;
}

}  // namespace ferro::testing
