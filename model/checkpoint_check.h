#pragma once

#include <string>
#include <vector>

#include "model/arena.h"
#include "model/checkpoint_reader.h"
#include "model/config.h"

namespace ferro {

/// Every way in which a checkpoint's tensors are not the model's, a line each: missing, of another shape, not
/// of floats, extra. Rotary buffers of old versions and a tied model's head are no difference.
std::vector<std::string> tensor_differences(const CheckpointReader& checkpoint, const ArenaTable& table,
                                            const ModelConfig& config);

/// A line when a tied model's file holds a head that is not the embedding: some writers store a copy. Reads
/// both; for a checkpoint without tensor_differences.
std::vector<std::string> tied_head_difference(const CheckpointReader& checkpoint, const ModelConfig& config);

}  // namespace ferro
