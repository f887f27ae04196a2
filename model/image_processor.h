#pragma once

#include <filesystem>

#include "data/image_processor_config.h"
#include "model/config.h"

namespace ferro {

/// find_image_processor(), agreeing with the model on how a picture is cut into patches. Error{kIo} where the
/// folder has none; Error{kData} broken, or naming the key in which it and config.json differ.
FoundImageProcessor load_image_processor(const std::filesystem::path& model_folder,
                                         const ModelConfig& config);

}  // namespace ferro
