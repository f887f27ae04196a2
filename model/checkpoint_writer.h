#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "model/config.h"
#include "model/safetensors.h"

namespace ferro {

/// Shards are cut here unless somebody says otherwise.
constexpr std::uint64_t kDefaultShardBytes = 5'000'000'000;

/// How a checkpoint's tensors are spread over files: in order, a new file where the next tensor would take
/// one above `max_shard_bytes` (a tensor larger than that has a file of its own). File names are Hugging
/// Face's.
struct ShardPlan {
  struct Shard {
    std::string file;
    std::vector<NamedShape> tensors;
  };
  std::vector<Shard> shards;
  std::uint64_t num_bytes = 0, num_parameters = 0;
};
ShardPlan plan_shards(const std::vector<NamedShape>& tensors, at::ScalarType dtype,
                      std::uint64_t max_shard_bytes);

/// "float32", "bfloat16", "float16": as config.json names the weights' dtype.
const char* config_dtype_name(at::ScalarType dtype);
/// The inverse. Error{kUsage} for another name.
at::ScalarType config_dtype(const std::string& name);

/// Writes one tensor: calls SafetensorsWriter::write until it is complete.
using TensorSource = std::function<void(const NamedShape&, SafetensorsWriter&)>;

/// A whole model folder: config.json, generation_config.json, the tokenizer, template, processor and
/// generation files of `companions` (a folder, or empty), and model.safetensors or shards with their index.
/// Built in
/// `<folder>.tmp`, then renamed: `folder` is there whole or not at all (an existing model folder is replaced,
/// any other is refused). Returns the SHA-256 of model.safetensors; of shards, that of the lines "<sha256>
/// <file>", as sha256sum prints them. Error{kIo}: no room for it (found before anything is written), or a
/// failed write; nothing is left behind then. One writer per folder.
std::string write_model_folder(const std::filesystem::path& folder, const ModelConfig& config,
                               const std::filesystem::path& companions,
                               const std::vector<NamedShape>& tensors, at::ScalarType dtype,
                               std::uint64_t max_shard_bytes, const TensorSource& source);

}  // namespace ferro
