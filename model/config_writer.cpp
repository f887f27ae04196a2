#include <nlohmann/json.hpp>

#include "core/atomic_file.h"
#include "model/config.h"

namespace ferro {
namespace {

using nlohmann::json;

json id_or_null(std::int32_t id) {
  return id < 0 ? json(nullptr) : json(id);
}

/// One id as a number, several as a list.
json ids_json(const std::vector<std::int32_t>& ids) {
  return ids.size() == 1 ? json(ids.front()) : json(ids);
}

/// 2.0 as 2: transformers' configuration classes ask for integers where they mean them.
json shortest(double value) {
  const auto whole = static_cast<std::int64_t>(value);
  return static_cast<double>(whole) == value ? json(whole) : json(value);
}

json text_json(const ModelConfig& config) {
  const TextConfig& text = config.text;
  std::vector<std::int32_t> ends{config.eos_token_id};
  ends.insert(ends.end(), config.further_eos_token_ids.begin(), config.further_eos_token_ids.end());
  // transformers 4 reads rope_scaling, rope_theta and tie_word_embeddings of the text model, transformers 5
  // rope_parameters and the tie at the top.
  return {
      {"attention_dropout", 0.0},
      {"bos_token_id", id_or_null(config.bos_token_id)},
      {"eos_token_id", config.eos_token_id < 0 ? json(nullptr) : ids_json(ends)},
      {"hidden_act", "silu"},
      {"hidden_size", text.hidden_size},
      {"initializer_range", 0.02},
      {"intermediate_size", text.intermediate_size},
      {"layer_types",
       std::vector<std::string>(static_cast<std::size_t>(text.num_hidden_layers), "full_attention")},
      {"max_position_embeddings", text.max_position_embeddings},
      {"max_window_layers", text.num_hidden_layers},
      {"model_type", "qwen2_5_vl_text"},
      {"num_attention_heads", text.num_attention_heads},
      {"num_hidden_layers", text.num_hidden_layers},
      {"num_key_value_heads", text.num_key_value_heads},
      {"pad_token_id", id_or_null(config.pad_token_id)},
      {"rms_norm_eps", text.rms_norm_eps},
      {"rope_parameters",
       {{"mrope_section", text.mrope_section}, {"rope_theta", text.rope_theta}, {"rope_type", "default"}}},
      {"rope_scaling",
       {{"mrope_section", text.mrope_section}, {"rope_type", "default"}, {"type", "default"}}},
      {"rope_theta", text.rope_theta},
      {"sliding_window", nullptr},
      {"tie_word_embeddings", config.tie_word_embeddings},
      {"use_cache", true},
      {"use_sliding_window", false},
      {"vocab_size", text.vocab_size}};
}

json vision_json(const VisionConfig& vision) {
  return {{"depth", vision.depth},
          {"fullatt_block_indexes", vision.fullatt_block_indexes},
          {"hidden_act", "silu"},
          {"hidden_size", vision.hidden_size},
          {"in_channels", vision.in_channels},
          {"initializer_range", 0.02},
          {"intermediate_size", vision.intermediate_size},
          {"model_type", "qwen2_5_vl_vision"},
          {"num_heads", vision.num_heads},
          {"out_hidden_size", vision.out_hidden_size},
          {"patch_size", vision.patch_size},
          {"rope_parameters", {{"rope_theta", vision.rope_theta}, {"rope_type", "axial"}}},
          {"spatial_merge_size", vision.spatial_merge_size},
          {"temporal_patch_size", vision.temporal_patch_size},
          {"tokens_per_second", shortest(vision.tokens_per_second)},
          {"window_size", vision.window_size}};
}

}  // namespace

void ModelConfig::save(const std::filesystem::path& config_json, const std::string& dtype) const {
  const json root = {{"architectures", {"Qwen2_5_VLForConditionalGeneration"}},
                     {"dtype", dtype},
                     {"image_token_id", image_token_id},
                     {"model_type", "qwen2_5_vl"},
                     {"text_config", text_json(*this)},
                     {"tie_word_embeddings", tie_word_embeddings},
                     {"video_token_id", video_token_id},
                     {"vision_config", vision_json(vision)},
                     {"vision_end_token_id", vision_end_token_id},
                     {"vision_start_token_id", vision_start_token_id}};
  write_file_atomically(config_json, root.dump(2) + "\n");
}

void ModelConfig::save_generation_config(const std::filesystem::path& generation_config_json) const {
  json root = json::object();
  if (bos_token_id >= 0) root["bos_token_id"] = bos_token_id;
  const std::vector<std::int32_t> ends = stop_ids();
  if (!ends.empty()) root["eos_token_id"] = ids_json(ends);
  if (pad_token_id >= 0) root["pad_token_id"] = pad_token_id;
  write_file_atomically(generation_config_json, root.dump(2) + "\n");
}

}  // namespace ferro
