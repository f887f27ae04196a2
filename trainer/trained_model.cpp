#include "trainer/trained_model.h"

#include <memory>
#include <utility>

#include "core/error.h"

namespace ferro {
namespace {

LoraAdapter adapter_for(const Model& base, const TrainedParts& parts, const LoraConfig& lora,
                        std::uint64_t seed) {
  if (lora.adapter_name_or_path.empty()) return make_lora(base, lora, parts, seed);
  LoraAdapter adapter = load_adapter(lora.adapter_name_or_path, base);
  adapter.config.save_merged = lora.save_merged;
  adapter.dropout->seed = seed;
  return adapter;
}

}  // namespace

Model load_trained_model(const std::filesystem::path& folder, const TrainedParts& parts,
                         const LoraConfig& lora, std::uint64_t seed) {
  Model model = load_model(folder, false);
  if (lora.enabled()) {
    attach_adapter(model, std::make_shared<LoraAdapter>(adapter_for(model, parts, lora, seed)), true);
    return model;
  }
  model.arena.allocate_gradients(TrainedSet::make(
      model.arena.table, [&](const ParameterInfo& info) { return parts.contains(part_of(info.name)); }));
  model.weights = bind_weights(model.config, model.arena);
  return model;
}

Model load_reference(const Model& policy, const std::filesystem::path& folder) {
  return policy.adapter != nullptr ? base_of(policy) : load_model(folder, false);
}

std::string save_trained_model(const Model& model, const std::filesystem::path& folder,
                               const std::filesystem::path& adapter_folder,
                               const std::filesystem::path& source_folder) {
  if (model.adapter == nullptr) return save_model(model, folder, source_folder);
  const std::string checksum = save_adapter(model, adapter_folder, source_folder.string());
  return model.adapter->config.save_merged ? save_model(model, folder, source_folder) : checksum;
}

}  // namespace ferro
