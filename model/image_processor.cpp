#include "model/image_processor.h"

#include "core/error.h"

namespace ferro {

ImageProcessorConfig load_image_processor(const std::filesystem::path& model_folder,
                                          const ModelConfig& config) {
  const std::filesystem::path file = model_folder / "preprocessor_config.json";
  const ImageProcessorConfig processor = ImageProcessorConfig::load(file);
  const auto require_equal = [&](const char* key, std::int64_t here, std::int64_t model) {
    if (here != model)
      fail(ErrorCode::kData, "{}: {} is {}, but the model's config.json says {}: the two files must agree",
           file.string(), key, here, model);
  };
  require_equal("patch_size", processor.patch_size, config.vision.patch_size);
  require_equal("temporal_patch_size", processor.temporal_patch_size, config.vision.temporal_patch_size);
  require_equal("merge_size", processor.merge_size, config.vision.spatial_merge_size);
  return processor;
}

}  // namespace ferro
