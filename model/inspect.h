#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "model/config.h"

namespace ferro {

/// Sizes of one part of a model.
struct PartSummary {
  std::string part;             ///< "vision", "merger", "embedding", "decoder", "head".
  std::int64_t parameters = 0;  ///< A tied head has only the final norm; its matrix counts as embedding.
  std::int64_t bytes = 0;       ///< In the files; equal to 4 * parameters when computed from a config alone.
  double flops_per_token = 0;   ///< Forward, 2 per multiply-add of matrices. Vision and merger: per image
                                ///< token. Attention scores left out.
};

/// In the order of the walk.
std::vector<PartSummary> summarise_parts(const ModelConfig& config);

/// A report for people: parameters and bytes by part, forward floating-point operations per token,
/// architecture, every tensor's name, dtype and shape with `all_tensors`. Only headers are read. Error{kIo},
/// Error{kData} as load_model.
std::string inspect_model(const std::filesystem::path& folder, bool all_tensors);

}  // namespace ferro
