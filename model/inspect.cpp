#include "model/inspect.h"

#include <functional>
#include <numeric>

#include <fmt/ranges.h>

#include "model/arena.h"
#include "model/checkpoint_reader.h"
#include "model/tensor_names.h"

namespace ferro {
namespace {

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

std::string human_bytes(std::int64_t bytes) {
  const char* const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  for (; value >= 1024 && unit + 1 < std::size(units); ++unit) value /= 1024;
  return fmt::format("{:.{}f} {}", value, unit == 0 ? 0 : 1, units[unit]);
}

std::string human_flops(double flops) {
  const char* const units[] = {"", " k", " M", " G", " T"};
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
      "tokens   vocabulary {}, head {}, image {}, video {}, end {}\n",
      v.depth, v.hidden_size, v.num_heads, v.intermediate_size, v.patch_size, v.spatial_merge_size,
      v.window_size, fmt::join(v.fullatt_block_indexes, ", "), t.num_hidden_layers, t.hidden_size,
      t.num_attention_heads, t.num_key_value_heads, t.intermediate_size, fmt::join(t.mrope_section, ", "),
      t.rope_theta, t.rms_norm_eps, t.vocab_size,
      config.tie_word_embeddings ? "tied to the embedding" : "of its own", config.image_token_id,
      config.video_token_id, config.eos_token_id);
}

std::string table_line(const PartSummary& part) {
  return fmt::format("{:<10} {:>14} {:>12} {:>16}\n", part.part, part.parameters, human_bytes(part.bytes),
                     human_flops(part.flops_per_token));
}

}  // namespace

std::vector<PartSummary> summarise_parts(const ModelConfig& config) {
  const ArenaTable table = ArenaTable::make(config, false);
  std::vector<PartSummary> parts(kNumParts);
  for (std::size_t i = 0; i < kNumParts; ++i) parts[i].part = kPartNames[i];
  for (const ParameterInfo& info : table.parameters) {
    const Part part = part_of(table.stages[static_cast<std::size_t>(info.stage)].kind);
    const std::int64_t size = num_elements(info.shape);
    parts[part].parameters += size;
    parts[part].bytes += size * 4;
    parts[part].flops_per_token += matrix_flops(info, part, config.vision);
  }
  if (config.tie_word_embeddings)
    parts[kHead].flops_per_token +=
        2.0 * static_cast<double>(config.text.vocab_size) * static_cast<double>(config.text.hidden_size);
  return parts;
}

std::string inspect_model(const std::filesystem::path& folder, bool all_tensors) {
  const ModelConfig config = ModelConfig::load(folder / "config.json");
  const CheckpointReader checkpoint(folder);
  const ArenaTable table = ArenaTable::make(config, false);
  std::vector<PartSummary> parts = summarise_parts(config);
  for (PartSummary& part : parts) part.bytes = 0;
  std::string unknown, tensors;
  for (const auto& [name, place] : checkpoint.places()) {
    const SafetensorsFile::Entry& entry = checkpoint.entry(name);
    tensors += fmt::format("{:<56} {:<5} [{}]\n", place.name, entry.dtype, fmt::join(entry.shape, ", "));
    const auto found = table.by_name.find(name);
    if (found == table.by_name.end()) {
      unknown += fmt::format("not part of the architecture: {}\n", place.name);
      continue;
    }
    const ParameterInfo& info = table.parameters[static_cast<std::size_t>(found->second)];
    parts[part_of(table.stages[static_cast<std::size_t>(info.stage)].kind)].bytes +=
        static_cast<std::int64_t>(entry.end - entry.begin);
  }
  std::string missing;
  for (const ParameterInfo& info : table.parameters)
    if (!checkpoint.places().contains(info.name)) missing += fmt::format("missing: {}\n", info.name);

  PartSummary total;
  total.part = "total";
  std::string report =
      folder.string() + "\n" + architecture_lines(config) + "\n" +
      fmt::format("{:<10} {:>14} {:>12} {:>16}\n", "part", "parameters", "in files", "FLOPs per token");
  for (const PartSummary& part : parts) {
    report += table_line(part);
    total.parameters += part.parameters;
    total.bytes += part.bytes;
  }
  report += fmt::format("{:<10} {:>14} {:>12}\n", total.part, total.parameters, human_bytes(total.bytes));
  report +=
      "FLOPs: forward, 2 per multiply-add of matrices, attention scores left out; vision and merger per "
      "image token.\n";
  report += unknown + missing;
  if (all_tensors) report += "\n" + tensors;
  return report;
}

}  // namespace ferro
