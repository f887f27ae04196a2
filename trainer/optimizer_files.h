#pragma once

#include <filesystem>

#include "model/weights.h"
#include "trainer/checkpoint/checkpoint_folder.h"
#include "trainer/optimizer.h"

namespace ferro {

// optimizer/ of a checkpoint. index.json: steps done, and how many of them updated each part of
// the model; the trained parameters with their places in the flat
// buffer, and for each file the range of elements (and blocks of 8-bit moments) that it holds. Each rank
// writes files of its own, rank-000.safetensors (first_moment, second_moment) and, with 8-bit moments,
// rank-000.scales.safetensors; a reader takes the ranges it needs from whichever files have them.

/// As the only rank.
void write_optimizer(CheckpointBuilder& checkpoint, AdamW& optimizer, const ParameterArena& trained);

/// Error{kData} naming the file: another format version, moments of other parameters, of another kind, ranges
/// that leave holes, tensors of another size.
void read_optimizer(const std::filesystem::path& checkpoint, AdamW& optimizer, const ParameterArena& trained);

}  // namespace ferro
