#pragma once

#include <filesystem>

#include "data/image_processor_config.h"
#include "model/config.h"

namespace ferro {

/// preprocessor_config.json of a model folder, agreeing with the model on how a picture is cut into patches.
/// Error{kIo} missing; Error{kData} broken, or naming the key in which it and config.json differ.
ImageProcessorConfig load_image_processor(const std::filesystem::path& model_folder,
                                          const ModelConfig& config);

}  // namespace ferro
