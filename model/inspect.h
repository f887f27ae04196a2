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
  std::int64_t bytes = 0;       ///< In the files; of a configuration alone, at `value_bytes` each.
  double flops_per_token = 0;   ///< Forward, 2 per multiply-add of matrices. Vision and merger: per image
                                ///< token. Attention scores left out.
};

/// In the order of the walk.
std::vector<PartSummary> summarise_parts(const ModelConfig& config, std::int64_t value_bytes = 4);

/// What a forward pass costs, attention scores apart.
struct Work {
  double text_token = 0;           ///< Decoder and head.
  double image_token = 0;          ///< Vision, merger and decoder: what a picture adds to a prompt.
  double attention_per_token = 0;  ///< Decoder: per token and token that it sees.
  double window_attention = 0;  ///< Vision: per image token, in the blocks that attend within whole windows.
  double full_attention = 0;    ///< Vision: per image token and image token of the picture, in the others.
  std::int64_t cache_values = 0;  ///< Keys and values that a token leaves behind.
};
Work forward_work(const ModelConfig& config);

struct Inspection {
  std::string report;                 ///< For people.
  std::vector<std::string> problems;  ///< What does not belong together; part of the report as well.
};

/// A model folder, or a config.json (or a folder with nothing but it) alone: architecture, parameters and
/// bytes by part, work per token, every tensor's name, dtype and shape with `all_tensors`; whether the
/// tensors and the image processor are config.json's. Only headers are read. Error{kIo}, Error{kData}: files
/// that cannot be read at all.
Inspection inspect_model(const std::filesystem::path& model, bool all_tensors);

}  // namespace ferro
