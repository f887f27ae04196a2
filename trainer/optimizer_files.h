#pragma once

#include <filesystem>
#include <vector>

#include <nlohmann/json.hpp>

#include "model/weights.h"
#include "trainer/checkpoint/checkpoint_folder.h"
#include "trainer/optimizer.h"

namespace ferro {

// optimizer/ of a checkpoint. index.json: steps done, and how many of them updated each part of
// the model; the trained parameters with their places in the flat
// buffer, and for each file the range of elements (and blocks of 8-bit moments) that it holds. Each rank
// writes files of its own, rank-000.safetensors (first_moment, second_moment) and, with 8-bit moments,
// rank-000.scales.safetensors; a reader takes the ranges it needs from whichever files have them.

/// Writes the optimizer's slice below the checkpoint's folder `staged`, as rank `rank`. Returns its entry in
/// index.json and the checksums of its files, for write_optimizer_index.
nlohmann::json write_moments(const std::filesystem::path& staged, int rank, AdamW& optimizer);
/// After all `moments` are written: notes them, writes index.json.
void write_optimizer_index(CheckpointBuilder& checkpoint, const AdamW& optimizer,
                           const ParameterArena& trained, const std::vector<nlohmann::json>& moments);

/// Both, as the only rank.
void write_optimizer(CheckpointBuilder& checkpoint, AdamW& optimizer, const ParameterArena& trained);

/// Fills the optimizer's slice, whoever wrote it. Error{kData} naming the file: another format version,
/// moments of other parameters, of another kind, ranges that leave holes, tensors of another size.
void read_optimizer(const std::filesystem::path& checkpoint, AdamW& optimizer, const ParameterArena& trained);

}  // namespace ferro
