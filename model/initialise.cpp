#include <algorithm>

#include "core/error.h"
#include "data/bpe_trainer.h"
#include "model/initial_values.h"
#include "model/model_folder.h"

namespace ferro {
namespace {

/// Small enough to train on two processor cores: a 48-pixel picture is 16 patches in one window and 4 image
/// tokens.
ModelConfig tiny(std::int64_t vocab_size) {
  ModelConfig config;
  VisionConfig& vision = config.vision;
  vision.depth = 4;
  vision.hidden_size = 128;
  vision.intermediate_size = 384;
  vision.num_heads = 4;
  vision.patch_size = 12;
  vision.out_hidden_size = 128;
  vision.window_size = 48;
  vision.fullatt_block_indexes = {1, 3};
  TextConfig& text = config.text;
  text.vocab_size = vocab_size;
  text.hidden_size = 128;
  text.intermediate_size = 384;
  text.num_hidden_layers = 2;
  text.num_attention_heads = 4;
  text.num_key_value_heads = 2;
  text.max_position_embeddings = 4096;
  text.mrope_section = {4, 6, 6};
  config.tie_word_embeddings = true;
  return config;
}

}  // namespace

void initialise(ParameterArena& arena, const ModelConfig& config, std::uint64_t seed) {
  FERRO_CHECK(arena.table.num_parameters() == ArenaTable::make(config, false).num_parameters(),
              "an arena of {} parameters is not this configuration's", arena.table.num_parameters());
  for (const ParameterInfo& info : arena.table.parameters) {
    const at::Tensor value = at::empty(info.shape, at::kFloat);
    InitialValues(config, info.name, info.shape, seed)
        .fill(0, {value.data_ptr<float>(), static_cast<std::size_t>(value.numel())});
    arena.import_parameter(info.name, value);
  }
}

ModelConfig preset_config(const std::string& preset, std::int64_t vocab_size) {
  const std::vector<std::string>& special = qwen_special_tokens();
  const auto first_special = vocab_size - static_cast<std::int64_t>(special.size());
  if (first_special < 1)
    fail(ErrorCode::kUsage, "a vocabulary of {} has no room for {} special tokens", vocab_size,
         special.size());
  const auto id_of = [&](const char* token) {
    const auto found = std::find(special.begin(), special.end(), token);
    FERRO_CHECK(found != special.end(), "{} is not a special token", token);
    return static_cast<std::int32_t>(first_special + (found - special.begin()));
  };
  if (preset != "tiny") fail(ErrorCode::kUsage, "no preset \"{}\"; known: tiny", preset);
  ModelConfig config = tiny(vocab_size);
  config.bos_token_id = config.pad_token_id = id_of("<|endoftext|>");
  config.eos_token_id = id_of("<|im_end|>");
  config.vision_start_token_id = id_of("<|vision_start|>");
  config.vision_end_token_id = id_of("<|vision_end|>");
  config.image_token_id = id_of("<|image_pad|>");
  config.video_token_id = id_of("<|video_pad|>");
  return config;
}

}  // namespace ferro
