#pragma once

#include <cstdint>
#include <filesystem>
#include <stop_token>
#include <string>

#include "model/checkpoint_writer.h"
#include "model/config.h"

namespace ferro {

struct RandomModelOptions {
  std::uint64_t seed = 0;
  at::ScalarType dtype = at::kFloat;
  std::uint64_t max_shard_bytes = kDefaultShardBytes;
  std::filesystem::path companions = {};  ///< Folder of tokenizer, template and processor files; empty: none.
  std::stop_token stop = {};
};

/// A model folder of fresh weights of any size, drawn and written piece by piece: the same bytes as
/// save_model() of an initialised arena, in memory that does not depend on the model. Returns what
/// write_model_folder() does. Error{kIo}; Error{kCheckpointed} when told to stop: nothing is left behind in
/// either case.
std::string write_random_model(const std::filesystem::path& folder, const ModelConfig& config,
                               const RandomModelOptions& options);

}  // namespace ferro
