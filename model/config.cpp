#include "model/config.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include <nlohmann/json.hpp>

#include "core/atomic_file.h"
#include "core/error.h"

namespace ferro {
namespace {

using nlohmann::json;

constexpr std::uint64_t kMaxConfigBytes = 1 << 24;
// Bounds of what a file may ask for: far above any real model, and every product of sizes stays within 64
// bits.
constexpr std::int64_t kMaxExtent = std::int64_t{1} << 24;
constexpr std::int64_t kMaxWidth = 1 << 20;
constexpr std::int64_t kMaxBlocks = 4096;
constexpr std::int64_t kMaxPatchExtent = 256;
constexpr std::int64_t kMaxMerge = 16;

/// One object of config.json; messages name the file and the key's path.
class ConfigReader {
 public:
  ConfigReader(const json& object, std::string file, std::string prefix)
      : object_(object), file_(std::move(file)), prefix_(std::move(prefix)) {
    if (!object_.is_object())
      fail(ErrorCode::kData, "{}: {} is not an object", file_, prefix_.empty() ? "it" : prefix_);
  }

  bool has(const char* key) const { return object_.contains(key) && !object_.at(key).is_null(); }
  bool is_null(const char* key) const { return object_.contains(key) && object_.at(key).is_null(); }
  bool empty() const { return object_.empty(); }

  ConfigReader child(const char* key) const { return ConfigReader(value(key), file_, prefix_ + key + "."); }

  std::int64_t extent(const char* key, std::int64_t max) const {
    const std::int64_t number = integer(value(key), key);
    if (number < 1 || number > max) bad(key, fmt::format("{} is not in [1, {}]", number, max));
    return number;
  }
  /// null is refused like any other value that is no number.
  std::int64_t extent_or(const char* key, std::int64_t absent, std::int64_t max) const {
    return object_.contains(key) ? extent(key, max) : absent;
  }

  double number(const char* key, double absent) const {
    if (!has(key)) return absent;
    const json& found = object_.at(key);
    if (!found.is_number()) bad(key, "not a number");
    const double number = found.get<double>();
    if (!std::isfinite(number) || number <= 0) bad(key, "not a positive number");
    return number;
  }

  bool boolean(const char* key, bool absent) const {
    if (!has(key)) return absent;
    if (!object_.at(key).is_boolean()) bad(key, "not true or false");
    return object_.at(key).get<bool>();
  }

  std::string text(const char* key, const char* absent) const {
    if (!has(key)) return absent;
    if (!object_.at(key).is_string()) bad(key, "not a string");
    return object_.at(key).get<std::string>();
  }

  std::vector<std::int64_t> integers(const char* key) const {
    const json& found = value(key);
    if (!found.is_array()) bad(key, "not a list");
    std::vector<std::int64_t> numbers;
    for (const json& item : found) numbers.push_back(integer(item, key));
    return numbers;
  }

  /// An id, a list of ids, or nothing.
  std::vector<std::int32_t> token_ids(const char* key) const {
    std::vector<std::int32_t> ids;
    if (!has(key)) return ids;
    const json& found = object_.at(key);
    for (const json& item : found.is_array() ? found : json::array({found})) {
      const std::int64_t id = integer(item, key);
      if (id < 0 || id > kMaxExtent) bad(key, fmt::format("{} is not a token id", id));
      ids.push_back(static_cast<std::int32_t>(id));
    }
    return ids;
  }
  /// An id, or the first of a list of ids.
  std::int32_t token_id(const char* key, std::int32_t absent) const {
    const std::vector<std::int32_t> ids = token_ids(key);
    return ids.empty() ? absent : ids.front();
  }

  [[noreturn]] void bad(const char* key, const std::string& why) const {
    fail(ErrorCode::kData, "{}: {}{}: {}", file_, prefix_, key, why);
  }

 private:
  const json& value(const char* key) const {
    if (!has(key)) bad(key, is_null(key) ? "null" : "missing");
    return object_.at(key);
  }
  std::int64_t integer(const json& found, const char* key) const {
    if (found.is_number_unsigned() &&
        found.get<std::uint64_t>() > std::uint64_t{std::numeric_limits<std::int64_t>::max()})
      bad(key, "too large");
    if (!found.is_number_integer()) bad(key, "not an integer");
    return found.get<std::int64_t>();
  }

  const json& object_;
  std::string file_, prefix_;
};

/// The object that rotary settings are read from, null where there is none. As transformers: rope_scaling
/// unless it is empty, whatever rope_parameters says.
const char* rope_key(const ConfigReader& reader) {
  if (reader.has("rope_scaling") && !reader.child("rope_scaling").empty()) return "rope_scaling";
  return reader.has("rope_parameters") ? "rope_parameters" : nullptr;
}

/// That object's own, else the one beside it.
double read_rope_theta(const ConfigReader& reader, double absent) {
  const double beside = reader.number("rope_theta", absent);
  const char* key = rope_key(reader);
  return key == nullptr ? beside : reader.child(key).number("rope_theta", beside);
}

// Values of absent keys are the defaults of transformers' Qwen2_5_VLVisionConfig: older versions leave out
// what equals them.
VisionConfig read_vision(const ConfigReader& reader) {
  VisionConfig vision;
  vision.depth = reader.extent_or("depth", 32, kMaxBlocks);
  vision.hidden_size = reader.extent_or("hidden_size", 3584, kMaxWidth);
  vision.intermediate_size = reader.extent_or("intermediate_size", 3420, kMaxWidth);
  vision.num_heads = reader.extent_or("num_heads", 16, kMaxWidth);
  vision.in_channels =
      reader.extent_or(reader.has("in_channels") ? "in_channels" : "in_chans", 3, kMaxPatchExtent);
  vision.patch_size = reader.extent_or("patch_size", 14, kMaxPatchExtent);
  vision.temporal_patch_size = reader.extent_or("temporal_patch_size", 2, kMaxPatchExtent);
  vision.spatial_merge_size = reader.extent_or("spatial_merge_size", 2, kMaxMerge);
  vision.out_hidden_size = reader.extent_or("out_hidden_size", 3584, kMaxWidth);
  vision.window_size = reader.extent_or("window_size", 112, kMaxExtent);
  vision.tokens_per_second = reader.number("tokens_per_second", 4.0);
  if (reader.has("fullatt_block_indexes"))
    vision.fullatt_block_indexes = reader.integers("fullatt_block_indexes");
  vision.rope_theta = read_rope_theta(reader, 10000.0);
  if (reader.text("hidden_act", "silu") != "silu") reader.bad("hidden_act", "only silu is known");

  if (vision.hidden_size % vision.num_heads != 0 || vision.head_dim() % 4 != 0)
    reader.bad("num_heads", fmt::format("{} heads do not split {} into a multiple of 4", vision.num_heads,
                                        vision.hidden_size));
  if (vision.window_size / vision.spatial_merge_size / vision.patch_size < 1)
    reader.bad("window_size", fmt::format("{} is less than one merged patch", vision.window_size));
  return vision;
}

std::vector<std::int64_t> read_mrope_section(const ConfigReader& reader, std::int64_t head_dim) {
  const char* key = rope_key(reader);
  const ConfigReader rope = key == nullptr ? reader : reader.child(key);
  const std::string type =
      key == nullptr ? "default" : rope.text("rope_type", rope.text("type", "default").c_str());
  if (type != "default" && type != "mrope") rope.bad("rope_type", fmt::format("\"{}\" is not known", type));
  if (key == nullptr || !rope.has("mrope_section")) {
    if (head_dim != 128)
      rope.bad("mrope_section",
               fmt::format("missing; its default 16, 24, 24 is for heads of 128, these have {}", head_dim));
    return {16, 24, 24};
  }
  const std::vector<std::int64_t> section = rope.integers("mrope_section");
  if (section.size() != 3) rope.bad("mrope_section", fmt::format("{} sections instead of 3", section.size()));
  std::int64_t sum = 0;
  for (const std::int64_t size : section) {
    if (size < 0 || size > head_dim) rope.bad("mrope_section", fmt::format("section of {}", size));
    sum += size;
  }
  if (2 * sum != head_dim)
    rope.bad("mrope_section", fmt::format("sections sum to {}, half a head is {}", sum, head_dim / 2));
  return section;
}

// Absent keys have the defaults of transformers' Qwen2_5_VLTextConfig, the shape of the 72B model.
TextConfig read_text(const ConfigReader& reader) {
  TextConfig text;
  text.vocab_size = reader.extent_or("vocab_size", 152064, kMaxExtent);
  text.hidden_size = reader.extent_or("hidden_size", 8192, kMaxWidth);
  text.intermediate_size = reader.extent_or("intermediate_size", 29568, kMaxWidth);
  text.num_hidden_layers = reader.extent_or("num_hidden_layers", 80, kMaxBlocks);
  text.num_attention_heads = reader.extent_or("num_attention_heads", 64, kMaxWidth);
  text.num_key_value_heads = reader.is_null("num_key_value_heads")
                                 ? text.num_attention_heads
                                 : reader.extent_or("num_key_value_heads", 8, kMaxWidth);
  text.max_position_embeddings = reader.extent_or("max_position_embeddings", 32768, kMaxExtent);
  text.rms_norm_eps = reader.number("rms_norm_eps", 1e-5);
  if (text.hidden_size % text.num_attention_heads != 0 || text.head_dim() % 2 != 0)
    reader.bad("num_attention_heads", fmt::format("{} heads do not split {} into even widths",
                                                  text.num_attention_heads, text.hidden_size));
  if (text.num_attention_heads % text.num_key_value_heads != 0)
    reader.bad("num_key_value_heads", fmt::format("{} does not divide {} heads", text.num_key_value_heads,
                                                  text.num_attention_heads));
  text.rope_theta = read_rope_theta(reader, 1e6);
  text.mrope_section = read_mrope_section(reader, text.head_dim());
  if (reader.boolean("use_sliding_window", false))
    reader.bad("use_sliding_window", "sliding windows are not part of this model");
  if (reader.text("hidden_act", "silu") != "silu") reader.bad("hidden_act", "only silu is known");
  return text;
}

json parse_config(const std::filesystem::path& path) {
  const std::string content = read_file(path, kMaxConfigBytes);
  try {
    return json::parse(content);
  } catch (const json::exception& error) {
    fail(ErrorCode::kData, "{}: not JSON: {}", path.string(), error.what());
  }
}

}  // namespace

ModelConfig ModelConfig::load(const std::filesystem::path& config_json) {
  const json root = parse_config(config_json);
  const ConfigReader top(root, config_json.string(), "");
  const std::string type = top.text("model_type", "");
  if (type != "qwen2_5_vl") top.bad("model_type", fmt::format("\"{}\" is not qwen2_5_vl", type));

  const ConfigReader text = top.has("text_config") ? top.child("text_config") : top;
  // An id may stand in either object, whatever the layout.
  const auto token_id = [&](const char* key, std::int32_t absent) {
    return top.has(key) ? top.token_id(key, absent) : text.token_id(key, absent);
  };

  ModelConfig config;
  const json no_keys = json::object();
  config.vision =
      read_vision(top.has("vision_config") ? top.child("vision_config")
                                           : ConfigReader(no_keys, config_json.string(), "vision_config."));
  config.text = read_text(text);
  if (config.vision.out_hidden_size != config.text.hidden_size)
    top.bad("vision_config.out_hidden_size",
            fmt::format("{}, but the text model's hidden_size is {}", config.vision.out_hidden_size,
                        config.text.hidden_size));
  // transformers 5 forwards the text model's true to the top, which is false by default.
  config.tie_word_embeddings =
      top.boolean("tie_word_embeddings", false) || text.boolean("tie_word_embeddings", false);
  config.image_token_id = token_id("image_token_id", config.image_token_id);
  config.video_token_id = token_id("video_token_id", config.video_token_id);
  config.vision_start_token_id = token_id("vision_start_token_id", config.vision_start_token_id);
  config.vision_end_token_id = token_id("vision_end_token_id", config.vision_end_token_id);
  config.bos_token_id = token_id("bos_token_id", -1);
  const std::vector<std::int32_t> ends = (top.has("eos_token_id") ? top : text).token_ids("eos_token_id");
  config.eos_token_id = ends.empty() ? -1 : ends.front();
  if (ends.size() > 1) config.further_eos_token_ids.assign(ends.begin() + 1, ends.end());
  config.pad_token_id = token_id("pad_token_id", config.bos_token_id);
  for (const auto& [key, id] : {std::pair{"image_token_id", config.image_token_id},
                                {"video_token_id", config.video_token_id},
                                {"vision_start_token_id", config.vision_start_token_id},
                                {"vision_end_token_id", config.vision_end_token_id},
                                {"eos_token_id", config.eos_token_id},
                                {"bos_token_id", config.bos_token_id},
                                {"pad_token_id", config.pad_token_id}})
    if (id >= config.text.vocab_size)
      top.bad(key, fmt::format("{} is outside the vocabulary of {}", id, config.text.vocab_size));
  return config;
}

ModelConfig ModelConfig::load_folder(const std::filesystem::path& folder) {
  ModelConfig config = load(folder / "config.json");
  const std::filesystem::path generation = folder / "generation_config.json";
  if (std::filesystem::exists(generation)) config.read_generation_config(generation);
  return config;
}

void ModelConfig::read_generation_config(const std::filesystem::path& generation_config_json) {
  const json root = parse_config(generation_config_json);
  generation_eos_token_ids =
      ConfigReader(root, generation_config_json.string(), "").token_ids("eos_token_id");
  std::erase_if(generation_eos_token_ids, [&](std::int32_t id) { return id >= text.vocab_size; });
}

std::vector<std::int32_t> ModelConfig::stop_ids() const {
  if (!generation_eos_token_ids.empty()) return generation_eos_token_ids;
  std::vector<std::int32_t> all{eos_token_id};
  all.insert(all.end(), further_eos_token_ids.begin(), further_eos_token_ids.end());
  all.push_back(pad_token_id);
  std::vector<std::int32_t> ids;
  for (const std::int32_t id : all)
    if (id >= 0 && id < text.vocab_size && std::find(ids.begin(), ids.end(), id) == ids.end())
      ids.push_back(id);
  return ids;
}

VisionTokens ModelConfig::vision_tokens() const {
  VisionTokens tokens;
  tokens.image_token_id = image_token_id;
  tokens.video_token_id = video_token_id;
  tokens.vision_start_token_id = vision_start_token_id;
  tokens.vision_end_token_id = vision_end_token_id;
  tokens.spatial_merge_size = static_cast<std::int32_t>(vision.spatial_merge_size);
  tokens.tokens_per_second = vision.tokens_per_second;
  return tokens;
}

}  // namespace ferro
