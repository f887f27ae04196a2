#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "model/checkpoint_writer.h"
#include "model/config.h"
#include "model/weights.h"

namespace ferro {

struct LoraAdapter;

/// A model in memory: config, arena, views. With an adapter the base is frozen and the views hold both.
struct Model {
  ModelConfig config;
  ParameterArena arena;
  ModelWeights weights;
  std::shared_ptr<LoraAdapter> adapter = nullptr;
};

/// Reads a Hugging Face folder (config.json, model.safetensors or shards + index; both tensor namings; any
/// float dtype, converted to `dtype`). Missing, extra or misshapen tensors: Error{kData} that lists them.
/// `with_gradients` allocates the gradient arena and binds it; `panels` is the CPU's layout (see Layout),
/// which takes fp32. A tied model's lm_head.weight is accepted where it equals the embedding. Beside the
/// arena, memory for a piece of the file is used at a time.
Model load_model(const std::filesystem::path& folder, bool with_gradients, bool panels = true,
                 at::ScalarType dtype = at::kFloat);

/// The model as a folder that Hugging Face opens, in hub names, an adapter merged into its weights; see
/// write_model_folder() for files, sharding, atomicity, result and errors. Tokenizer, chat template,
/// processor and generation files come from `source_folder` when it is not empty.
std::string save_model(const Model& model, const std::filesystem::path& folder,
                       const std::filesystem::path& source_folder, at::ScalarType dtype = at::kFloat,
                       std::uint64_t max_shard_bytes = kDefaultShardBytes);

/// Draws every parameter afresh: InitialValues.
void initialise(ParameterArena& arena, const ModelConfig& config, std::uint64_t seed);

/// Architectures that `ferro model init --preset` knows: "tiny". Special ids are the last of the vocabulary,
/// in the order of qwen_special_tokens(). Error{kUsage} for an unknown name.
ModelConfig preset_config(const std::string& preset, std::int64_t vocab_size);

}  // namespace ferro
