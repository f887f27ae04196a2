#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "model/config.h"
#include "model/weights.h"

namespace ferro {

/// A model in memory: config, arena, views.
struct Model {
  ModelConfig config;
  ParameterArena arena;
  ModelWeights weights;
};

/// Reads a Hugging Face folder (config.json, model.safetensors or shards + index; both tensor namings; any
/// float dtype). Missing, extra or misshapen tensors: Error{kData} that lists them. `with_gradients`
/// allocates the gradient arena and binds it; `panels` is the CPU's layout (see Layout). A tied model's
/// lm_head.weight is accepted where it equals the embedding.
Model load_model(const std::filesystem::path& folder, bool with_gradients, bool panels = true);

/// Writes config.json, generation_config.json and model.safetensors (hub names) into `folder`; copies
/// tokenizer, chat template and preprocessor files from `source_folder` when not empty. Built in
/// `<folder>.tmp`, then renamed: `folder` exists whole or not at all (an existing model folder is replaced,
/// any other is refused). Returns the SHA-256 of model.safetensors. Error{kIo} on a full disk: nothing is
/// left behind. One writer per folder.
std::string save_model(const Model& model, const std::filesystem::path& folder,
                       const std::filesystem::path& source_folder, at::ScalarType dtype = at::kFloat);

/// Fresh weights, keyed by (seed, parameter name): zero biases, unit norms, matrices normal with standard
/// deviation 1/sqrt(fan_in); half of that for the embedding, and 1/sqrt(2 * depth) of it where a block writes
/// to the residual stream.
void initialise(ParameterArena& arena, const ModelConfig& config, std::uint64_t seed);

/// Architectures that `ferro model init --preset` knows: "tiny". Special ids are the last of the vocabulary,
/// in the order of qwen_special_tokens(). Error{kUsage} for an unknown name.
ModelConfig preset_config(const std::string& preset, std::int64_t vocab_size);

}  // namespace ferro
