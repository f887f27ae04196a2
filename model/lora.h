#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "model/lora_config.h"
#include "model/model_folder.h"
#include "model/trained_parts.h"

namespace ferro {

/// A low-rank adapter in memory: its own small arena, in the stages of the base it belongs to. Several may
/// exist beside one base; the model's views hold one at a time.
struct LoraAdapter {
  std::string name = "default";
  LoraConfig config;
  ParameterArena arena;
  std::shared_ptr<DropoutState> dropout;
};

/// The table of an adapter. Error{kConfig}: a target that no layer's name ends with, the embedding, a tied
/// head, or no layer left in `parts`.
ArenaTable lora_table(const ArenaTable& base, const LoraConfig& config, const TrainedParts& parts);
/// The same for the weights that `adapted` accepts, in the base's layout.
ArenaTable low_rank_table(const ArenaTable& base, std::int64_t rank, const ParameterFilter& adapted);

/// An adapter of zeros; `seed` keys its dropout.
LoraAdapter allocate_lora(const Model& base, const LoraConfig& config, ArenaTable table, std::uint64_t seed);

/// A fresh adapter, initialised as PEFT does: A uniform within 1 / sqrt(in) (kaiming_uniform, a = sqrt 5),
/// keyed by (seed, name), B zero, so that it adds nothing yet. Errors of lora_table.
LoraAdapter make_lora(const Model& base, const LoraConfig& config, const TrainedParts& parts,
                      std::uint64_t seed);

/// Binds the adapter into the model's views, in the place of any other. With gradients: the adapter's are
/// allocated and the base's dropped.
void attach_adapter(Model& model, std::shared_ptr<LoraAdapter> adapter, bool with_gradients);

/// The base of a model: the same weights in the same memory, adapter off, without gradients.
Model base_of(const Model& model);

/// A parameter of the base with what the adapter adds, W + scale B A; a fresh tensor in file layout.
at::Tensor merged_parameter(const Model& model, const std::string& name);

/// Writes adapter_config.json and adapter_model.safetensors as PEFT names things, atomically; returns the
/// SHA-256 of the tensors. `base` is what adapter_config.json names as the base model.
std::string save_adapter(const Model& model, const std::filesystem::path& folder, const std::string& base);

/// Reads such a folder for `base`. Error{kIo}, Error{kData}: files missing or broken, another kind of adapter
/// than plain LoRA, tensors that are not the base's shapes.
LoraAdapter load_adapter(const std::filesystem::path& folder, const Model& base);

}  // namespace ferro
