#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

#include "model/lora.h"

namespace ferro {

/// The model that a run trains: read from `folder`, gradients for the parts that are trained, or an adapter,
/// fresh or continued, on a frozen base. Error{kConfig}, Error{kIo}, Error{kData} as the readers.
Model load_trained_model(const std::filesystem::path& folder, const TrainedParts& parts,
                         const LoraConfig& lora, std::uint64_t seed);

/// The frozen reference: with an adapter the same weights without it, else a second copy read from `folder`.
Model load_reference(const Model& policy, const std::filesystem::path& folder);

/// What a run keeps of a model: with an adapter, `<folder>` (base and adapter merged, where `merge` asks for
/// it) and `adapter_folder` in PEFT's layout. Returns the SHA-256 of the model's, else the adapter's weights.
std::string save_trained_model(const Model& model, const std::filesystem::path& folder,
                               const std::filesystem::path& adapter_folder,
                               const std::filesystem::path& source_folder);

}  // namespace ferro
