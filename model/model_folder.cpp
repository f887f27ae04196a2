#include "model/model_folder.h"

#include <fmt/ranges.h>

#include "core/error.h"
#include "model/checkpoint_reader.h"

namespace ferro {
namespace {

constexpr const char* kHead = "lm_head.weight";
constexpr const char* kEmbedding = "model.embed_tokens.weight";

/// What a checkpoint has that the model does not use: rotary buffers of old versions, and the head of a tied
/// model, which some writers store as a copy of the embedding.
bool is_redundant(const std::string& name, const ModelConfig& config) {
  return name.ends_with(".inv_freq") || (config.tie_word_embeddings && name == kHead);
}

bool is_float(const std::string& dtype) {
  return dtype == "F32" || dtype == "BF16" || dtype == "F16" || dtype == "F64";
}

/// Every way in which the file's tensors are not the model's, one line each.
std::string differences(const CheckpointReader& checkpoint, const ArenaTable& table,
                        const ModelConfig& config) {
  std::string lines;
  for (const ParameterInfo& info : table.parameters) {
    if (!checkpoint.places().contains(info.name)) {
      lines += fmt::format("\n  missing: {} [{}]", info.name, fmt::join(info.shape, ", "));
      continue;
    }
    const SafetensorsFile::Entry& entry = checkpoint.entry(info.name);
    if (entry.shape != info.shape)
      lines += fmt::format("\n  wrong shape: {} is [{}], expected [{}]", info.name,
                           fmt::join(entry.shape, ", "), fmt::join(info.shape, ", "));
    else if (!is_float(entry.dtype))
      lines += fmt::format("\n  wrong dtype: {} is {}", info.name, entry.dtype);
  }
  for (const auto& [name, place] : checkpoint.places())
    if (!table.by_name.contains(name) && !is_redundant(name, config))
      lines += fmt::format("\n  extra: {}", place.name);
  return lines;
}

}  // namespace

Model load_model(const std::filesystem::path& folder, bool with_gradients, bool panels) {
  Model model;
  model.config = ModelConfig::load(folder / "config.json");
  const CheckpointReader checkpoint(folder);
  const std::string wrong = differences(checkpoint, ArenaTable::make(model.config, panels), model.config);
  if (!wrong.empty())
    fail(ErrorCode::kData, "{}: the tensors are not those of config.json:{}", folder.string(), wrong);
  if (model.config.tie_word_embeddings && checkpoint.places().contains(kHead) &&
      !checkpoint.tensor(kHead).equal(checkpoint.tensor(kEmbedding)))
    fail(ErrorCode::kData, "{}: config.json ties the head to the embedding, but {} differs from {}",
         folder.string(), kHead, kEmbedding);

  model.arena = ParameterArena::allocate(model.config, panels, with_gradients);
  for (const ParameterInfo& info : model.arena.table.parameters)
    model.arena.import_parameter(info.name, checkpoint.tensor(info.name));
  model.weights = bind_weights(model.config, model.arena);
  return model;
}

}  // namespace ferro
