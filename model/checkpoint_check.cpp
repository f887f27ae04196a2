#include "model/checkpoint_check.h"

#include <fmt/ranges.h>

namespace ferro {
namespace {

bool is_redundant(const std::string& name, const ModelConfig& config) {
  return name.ends_with(".inv_freq") || (config.tie_word_embeddings && name == "lm_head.weight");
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

}  // namespace ferro
