#include "model/checkpoint_check.h"

#include <fmt/ranges.h>

namespace ferro {
namespace {

constexpr const char* kHead = "lm_head.weight";
constexpr const char* kEmbedding = "model.embed_tokens.weight";

bool is_redundant(const std::string& name, const ModelConfig& config) {
  return name.ends_with(".inv_freq") || (config.tie_word_embeddings && name == kHead);
}

bool is_float(const std::string& dtype) {
  return dtype == "F32" || dtype == "BF16" || dtype == "F16" || dtype == "F64";
}

}  // namespace

std::vector<std::string> tensor_differences(const CheckpointReader& checkpoint, const ArenaTable& table,
                                            const ModelConfig& config) {
  std::vector<std::string> lines;
  for (const ParameterInfo& info : table.parameters) {
    if (!checkpoint.places().contains(info.name)) {
      lines.push_back(fmt::format("missing: {} [{}]", info.name, fmt::join(info.shape, ", ")));
      continue;
    }
    const SafetensorsFile::Entry& entry = checkpoint.entry(info.name);
    if (entry.shape != info.shape)
      lines.push_back(fmt::format("wrong shape: {} is [{}], expected [{}]", info.name,
                                  fmt::join(entry.shape, ", "), fmt::join(info.shape, ", ")));
    else if (!is_float(entry.dtype))
      lines.push_back(fmt::format("wrong dtype: {} is {}", info.name, entry.dtype));
  }
  for (const auto& [name, place] : checkpoint.places())
    if (!table.by_name.contains(name) && !is_redundant(name, config))
      lines.push_back(fmt::format("extra: {}", place.name));
  return lines;
}

std::vector<std::string> tied_head_difference(const CheckpointReader& checkpoint, const ModelConfig& config) {
  if (!config.tie_word_embeddings || !checkpoint.places().contains(kHead)) return {};
  const bool same = checkpoint.tensor(kHead).equal(checkpoint.tensor(kEmbedding));
  checkpoint.release(kHead);
  checkpoint.release(kEmbedding);
  if (same) return {};
  return {
      fmt::format("config.json ties the head to the embedding, but {} differs from {}", kHead, kEmbedding)};
}

}  // namespace ferro
