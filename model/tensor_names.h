#pragma once

#include <string>
#include <string_view>

namespace ferro {

// Qwen2.5-VL's tensors have two namings: the hub's files (and what transformers 5 saves by default),
// "visual.blocks.0...", "model.layers.0..."; and transformers 5 in memory, "model.visual.blocks.0...",
// "model.language_model.layers.0...".

/// Hub name of a tensor named either way; other names are returned unchanged.
std::string hub_tensor_name(std::string_view name);
/// In-memory name of a tensor with a hub name.
std::string in_memory_tensor_name(std::string_view hub_name);

}  // namespace ferro
