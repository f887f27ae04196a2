#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "data/positions.h"

namespace ferro {

struct VisionConfig {
  std::int64_t depth = 32, hidden_size = 1280, intermediate_size = 3420, num_heads = 16;
  std::int64_t in_channels = 3, patch_size = 14, temporal_patch_size = 2, spatial_merge_size = 2;
  std::int64_t out_hidden_size = 3584, window_size = 112;
  std::vector<std::int64_t> fullatt_block_indexes{7, 15, 23, 31};  ///< May name blocks that are not there.
  double tokens_per_second = 2.0;
  double rms_norm_eps = 1e-6;  ///< Always 1e-6 in this architecture.
  double rope_theta = 10000.0;
  std::int64_t patch_values() const { return in_channels * temporal_patch_size * patch_size * patch_size; }
  std::int64_t head_dim() const { return hidden_size / num_heads; }
};

struct TextConfig {
  std::int64_t vocab_size = 152064, hidden_size = 3584, intermediate_size = 18944, num_hidden_layers = 28;
  std::int64_t num_attention_heads = 28, num_key_value_heads = 4, max_position_embeddings = 128000;
  double rms_norm_eps = 1e-6, rope_theta = 1e6;
  std::vector<std::int64_t> mrope_section{16, 24, 24};
  std::int64_t head_dim() const { return hidden_size / num_attention_heads; }
};

/// config.json of Qwen2.5-VL, read from either layout (flat as on the hub, nested as transformers 5 writes
/// it: where there is a text_config). Absent keys have the defaults of transformers' configuration classes;
/// where two keys say the same thing, the one counts that transformers 5 reads.
struct ModelConfig {
  VisionConfig vision;
  TextConfig text;
  bool tie_word_embeddings = false;
  std::int32_t image_token_id = 151655, video_token_id = 151656, vision_start_token_id = 151652,
               vision_end_token_id = 151653;
  std::int32_t bos_token_id = 151643, eos_token_id = 151645, pad_token_id = 151643;  ///< -1: none.
  std::vector<std::int32_t> further_eos_token_ids;  ///< Of a list of end ids in config.json, after its first.
  std::vector<std::int32_t> generation_eos_token_ids;  ///< generation_config.json's; empty: it says none.

  /// Error{kIo} missing; Error{kData} not JSON, another architecture, inconsistent shapes (named).
  static ModelConfig load(const std::filesystem::path& config_json);
  /// config.json of a model folder and, where there is one, its generation_config.json.
  static ModelConfig load_folder(const std::filesystem::path& folder);
  /// `eos_token_id` of a generation_config.json: an id, a list, or none. Ids outside the vocabulary, which no
  /// answer can hold, are left out. Error{kIo}; Error{kData} not JSON, no ids.
  void read_generation_config(const std::filesystem::path& generation_config_json);
  /// What ends an answer, the one place that says so: generation_config.json's end ids; where it has none,
  /// those of config.json and the padding id.
  std::vector<std::int32_t> stop_ids() const;
  /// Nested, with the keys that transformers 5 and 4 read; `dtype` names the weights' ("float32",
  /// "bfloat16"). Atomic. Error{kIo}.
  void save(const std::filesystem::path& config_json, const std::string& dtype = "float32") const;
  /// generation_config.json: the special ids, with all of stop_ids() as its end ids. Atomic. Error{kIo}.
  void save_generation_config(const std::filesystem::path& generation_config_json) const;
  VisionTokens vision_tokens() const;
};

}  // namespace ferro
