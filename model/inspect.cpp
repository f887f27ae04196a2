#include "model/inspect.h"

#include <functional>
#include <numeric>

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "core/atomic_file.h"
#include "core/byte_text.h"
#include "core/error.h"
#include "model/arena.h"
#include "model/checkpoint_check.h"
#include "model/checkpoint_reader.h"
#include "model/image_processor.h"
#include "model/qwen.h"

namespace ferro {
namespace {

namespace fs = std::filesystem;

enum Part : std::size_t { kVision, kMerger, kEmbedding, kDecoder, kHead, kNumParts };
const char* const kPartNames[kNumParts] = {"vision", "merger", "embedding", "decoder", "head"};

Part part_of(StageKind kind) {
  switch (kind) {
    case StageKind::kPatchEmbed:
    case StageKind::kVisionBlock:
      return kVision;
    case StageKind::kMerger:
      return kMerger;
    case StageKind::kEmbedding:
      return kEmbedding;
    case StageKind::kDecoderBlock:
      return kDecoder;
    case StageKind::kHead:
      return kHead;
  }
  return kHead;
}

std::int64_t num_elements(const std::vector<std::int64_t>& shape) {
  return std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
}

/// 2 per multiply-add; the tower's matrices work once per patch, of which an image token has merge^2.
double matrix_flops(const ParameterInfo& info, Part part, const VisionConfig& vision) {
  if (info.shape.size() < 2 || part == kEmbedding) return 0;
  const double flops = 2.0 * static_cast<double>(num_elements(info.shape));
  return part == kVision ? flops * static_cast<double>(vision.spatial_merge_size * vision.spatial_merge_size)
                         : flops;
}

std::string human_flops(double flops) {
  const char* const units[] = {" ", " k", " M", " G", " T"};
  std::size_t unit = 0;
  for (; flops >= 1000 && unit + 1 < std::size(units); ++unit) flops /= 1000;
  return fmt::format("{:.{}f}{}", flops, unit == 0 ? 0 : 1, units[unit]);
}

std::string architecture_lines(const ModelConfig& config) {
  const VisionConfig& v = config.vision;
  const TextConfig& t = config.text;
  return fmt::format(
      "vision   {} blocks of width {}, {} heads, inner {}, patch {}, merge {}, window {} px, full attention "
      "in [{}]\n"
      "text     {} blocks of width {}, {} heads, {} key/value heads, inner {}, M-RoPE [{}], theta {:g}, rms "
      "eps {:g}\n"
      "tokens   vocabulary {}, head {}, image {}, video {}, answers end at [{}]\n",
      v.depth, v.hidden_size, v.num_heads, v.intermediate_size, v.patch_size, v.spatial_merge_size,
      v.window_size, fmt::join(v.fullatt_block_indexes, ", "), t.num_hidden_layers, t.hidden_size,
      t.num_attention_heads, t.num_key_value_heads, t.intermediate_size, fmt::join(t.mrope_section, ", "),
      t.rope_theta, t.rms_norm_eps, t.vocab_size,
      config.tie_word_embeddings ? "tied to the embedding" : "of its own", config.image_token_id,
      config.video_token_id, fmt::join(config.stop_ids(), ", "));
}

std::string table_of(const std::vector<PartSummary>& parts, const std::string& bytes_title) {
  std::string table =
      fmt::format("{:<10} {:>14} {:>14} {:>16}\n", "part", "parameters", bytes_title, "FLOPs per token");
  PartSummary total;
  for (const PartSummary& part : parts) {
    table +=
        fmt::format("{:<10} {:>14} {:>14} {:>16}\n", part.part, part.parameters,
                    byte_text(static_cast<std::uint64_t>(part.bytes)), human_flops(part.flops_per_token));
    total.parameters += part.parameters;
    total.bytes += part.bytes;
  }
  table += fmt::format("{:<10} {:>14} {:>14}\n", "total", total.parameters,
                       byte_text(static_cast<std::uint64_t>(total.bytes)));
  return table + "FLOPs: forward, 2 per multiply-add of matrices; vision and merger per image token.\n";
}

std::string work_lines(const ModelConfig& config) {
  const Work work = forward_work(config);
  return fmt::format(
      "work     text token {}FLOP (decoder, head), image token {}FLOP (vision, merger, decoder)\n"
      "scores   text {}FLOP per token seen; image {}FLOP in windows and {}FLOP per image token of the "
      "picture\n"
      "cache    {} keys and values per token\n",
      human_flops(work.text_token), human_flops(work.image_token), human_flops(work.attention_per_token),
      human_flops(work.window_attention), human_flops(work.full_attention), work.cache_values);
}

/// The weights' dtype as the configuration names it, whichever of its keys does.
std::string dtype_in(const fs::path& config_json) {
  const nlohmann::json root = nlohmann::json::parse(read_file(config_json));
  for (const char* key : {"dtype", "torch_dtype"})
    if (root.contains(key) && root.at(key).is_string()) return root.at(key).get<std::string>();
  return "float32";
}

/// A line about the folder's image processor, or a problem when it is not the model's.
void check_processor(const fs::path& folder, const ModelConfig& config, Inspection& inspection) {
  try {
    if (!find_image_processor(folder)) return;
    const auto [file, processor] = load_image_processor(folder, config);
    inspection.report += fmt::format(
        "images   {}: patches and merge as config.json says, {} to {} pixels{}\n", file.filename().string(),
        processor.min_pixels, processor.max_pixels,
        processor.forced_size > 0 ? fmt::format(", each resized to {0} x {0}", processor.forced_size)
                                  : std::string());
  } catch (const Error& error) {
    inspection.problems.emplace_back(error.what());
  }
}

/// Bytes by part as the files have them, and the list of tensors.
std::string tensors_in(const CheckpointReader& checkpoint, const ArenaTable& table,
                       std::vector<PartSummary>& parts) {
  for (PartSummary& part : parts) part.bytes = 0;
  std::string list;
  for (const auto& [name, place] : checkpoint.places()) {
    const SafetensorsFile::Entry& entry = checkpoint.entry(name);
    list += fmt::format("{:<56} {:<5} [{}]\n", place.name, entry.dtype, fmt::join(entry.shape, ", "));
    const auto found = table.by_name.find(name);
    if (found == table.by_name.end()) continue;
    const ParameterInfo& info = table.parameters[static_cast<std::size_t>(found->second)];
    parts[part_of(table.stages[static_cast<std::size_t>(info.stage)].kind)].bytes +=
        static_cast<std::int64_t>(entry.end - entry.begin);
  }
  return list;
}

/// Shards without their index too: opening them then says what is missing.
bool has_weights(const fs::path& folder) {
  for (const fs::directory_entry& entry : fs::directory_iterator(folder))
    if (entry.path().extension() == ".safetensors") return true;
  return fs::exists(folder / "model.safetensors.index.json");
}

}  // namespace

std::vector<PartSummary> summarise_parts(const ModelConfig& config, std::int64_t value_bytes) {
  const ArenaTable table = ArenaTable::make(config, false);
  std::vector<PartSummary> parts(kNumParts);
  for (std::size_t i = 0; i < kNumParts; ++i) parts[i].part = kPartNames[i];
  for (const ParameterInfo& info : table.parameters) {
    const Part part = part_of(table.stages[static_cast<std::size_t>(info.stage)].kind);
    const std::int64_t size = num_elements(info.shape);
    parts[part].parameters += size;
    parts[part].bytes += size * value_bytes;
    parts[part].flops_per_token += matrix_flops(info, part, config.vision);
  }
  if (config.tie_word_embeddings)
    parts[kHead].flops_per_token +=
        2.0 * static_cast<double>(config.text.vocab_size) * static_cast<double>(config.text.hidden_size);
  return parts;
}

Work forward_work(const ModelConfig& config) {
  const std::vector<PartSummary> parts = summarise_parts(config);
  const VisionConfig& v = config.vision;
  const TextConfig& t = config.text;
  Work work;
  work.text_token = parts[kDecoder].flops_per_token + parts[kHead].flops_per_token;
  work.image_token =
      parts[kVision].flops_per_token + parts[kMerger].flops_per_token + parts[kDecoder].flops_per_token;
  // Scores and weighted values: 2 multiply-adds per channel and key.
  work.attention_per_token = 4.0 * static_cast<double>(t.num_hidden_layers * t.hidden_size);
  std::int64_t full_blocks = 0;
  for (std::int64_t block = 0; block < v.depth; ++block) full_blocks += is_full_attention_block(v, block);
  const std::int64_t merged = v.spatial_merge_size * v.spatial_merge_size,
                     side = v.window_size / v.patch_size / v.spatial_merge_size * v.spatial_merge_size;
  const double patch_scores = 4.0 * static_cast<double>(merged * v.hidden_size);
  work.window_attention = patch_scores * static_cast<double>((v.depth - full_blocks) * side * side);
  work.full_attention = patch_scores * static_cast<double>(full_blocks * merged);
  work.cache_values = 2 * t.num_hidden_layers * t.num_key_value_heads * t.head_dim();
  return work;
}

Inspection inspect_model(const fs::path& model, bool all_tensors) {
  const bool folder = fs::is_directory(model);
  const fs::path config_json = folder ? model / "config.json" : model;
  const ModelConfig config = folder ? ModelConfig::load_folder(model) : ModelConfig::load(config_json);
  Inspection inspection;
  inspection.report = model.string() + "\n" + architecture_lines(config) + "\n";
  if (!folder || !has_weights(model)) {
    const std::string dtype = dtype_in(config_json);
    inspection.report +=
        table_of(summarise_parts(config, dtype == "float32" ? 4 : 2), "as " + dtype) + work_lines(config);
    if (folder) check_processor(model, config, inspection);
  } else {
    const CheckpointReader checkpoint(model);
    const ArenaTable table = ArenaTable::make(config, false);
    std::vector<PartSummary> parts = summarise_parts(config);
    const std::string tensors = tensors_in(checkpoint, table, parts);
    inspection.report += table_of(parts, "in files") + work_lines(config);
    inspection.problems = tensor_differences(checkpoint, table, config);
    if (inspection.problems.empty()) inspection.problems = tied_head_difference(checkpoint, config);
    check_processor(model, config, inspection);
    if (all_tensors) inspection.report += "\n" + tensors;
  }
  for (const std::string& problem : inspection.problems) inspection.report += "problem  " + problem + "\n";
  return inspection;
}

}  // namespace ferro
