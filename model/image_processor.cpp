#include "model/image_processor.h"

#include "core/error.h"

namespace ferro {

FoundImageProcessor load_image_processor(const std::filesystem::path& model_folder,
                                         const ModelConfig& config) {
  const std::optional<FoundImageProcessor> found = find_image_processor(model_folder);
  if (!found)
    fail(ErrorCode::kIo,
         "{}: nothing says how pictures are processed: no preprocessor_config.json, and no "
         "`image_processor` in a processor_config.json",
         model_folder.string());
  const ImageProcessorConfig& processor = found->config;
  const auto require_equal = [&](const char* key, std::int64_t here, std::int64_t model) {
    if (here != model)
      fail(ErrorCode::kData, "{}: {} is {}, but the model's config.json says {}: the two files must agree",
           found->file.string(), key, here, model);
  };
  require_equal("patch_size", processor.patch_size, config.vision.patch_size);
  require_equal("temporal_patch_size", processor.temporal_patch_size, config.vision.temporal_patch_size);
  require_equal("merge_size", processor.merge_size, config.vision.spatial_merge_size);
  return *found;
}

}  // namespace ferro
