#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>

namespace ferro {

/// How a Qwen2-VL style processor turns pictures into patches.
struct ImageProcessorConfig {
  std::int32_t patch_size = 14, temporal_patch_size = 2, merge_size = 2;
  std::int64_t min_pixels = 3136, max_pixels = 12845056;
  std::array<double, 3> image_mean{0.48145466, 0.4578275, 0.40821073};
  std::array<double, 3> image_std{0.26862954, 0.26130258, 0.27577711};
  double rescale_factor = 1.0 / 255.0;
  std::int32_t forced_size =
      0;  ///< > 0: every image is first resized to this square (the published run: 224).
  bool standardize =
      false;  ///< ferro's own key: after resizing, each image to mean 0 and variance 1 (small grey faces).
  std::int64_t max_decoded_pixels =
      1 << 26;  ///< Larger dimensions in an image's header are refused before decoding.

  /// Error{kIo}, Error{kData}. Absent keys keep the defaults; both `min_pixels`/`max_pixels` and `size` are
  /// read.
  static ImageProcessorConfig load(const std::filesystem::path& preprocessor_config_json);
  /// The same of the object `image_processor` in transformers 5's processor_config.json; nothing where that
  /// key is absent or null.
  static std::optional<ImageProcessorConfig> load_nested(const std::filesystem::path& processor_config_json);
  void save(const std::filesystem::path& preprocessor_config_json) const;
};

struct FoundImageProcessor {
  std::filesystem::path file;
  ImageProcessorConfig config;
};

/// The image processor of a model folder, from the file that transformers takes it from:
/// processor_config.json where that has an `image_processor` (whole: nothing is filled in from the other
/// file), else preprocessor_config.json. Nothing where the folder has neither. Errors:
/// ImageProcessorConfig::load().
std::optional<FoundImageProcessor> find_image_processor(const std::filesystem::path& model_folder);

}  // namespace ferro
