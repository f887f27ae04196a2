#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <vector>

#include "data/augment_config.h"

namespace ferro {

/// Patches along time, height, width (before the spatial merge).
struct GridThw {
  std::int32_t t = 0, h = 0, w = 0;
  std::int64_t patches() const { return std::int64_t{t} * h * w; }
  bool operator==(const GridThw&) const = default;
};

/// One still image or video as the vision tower takes it.
struct ImageInput {
  GridThw grid;
  std::int32_t patch_values = 0;    ///< channels * temporal_patch_size * patch_size^2.
  std::vector<float> pixel_values;  ///< [grid.patches(), patch_values], normalised, Qwen2-VL row order (2x2
                                    ///< merge blocks together).
  bool video = false;
  double second_per_grid = 1.0;  ///< Video only.
};

/// Turns a path into patches. Implementations: the OpenCV one in data/image; tests have a fake.
/// Thread-safe. Throws Error{kData} (unreadable, too large, not an image) or Error{kIo} (missing), naming the
/// path.
class ImageLoader {
 public:
  virtual ~ImageLoader() = default;
  /// `augment` null: the image as it is.
  virtual std::shared_ptr<const ImageInput> load(const std::filesystem::path& path,
                                                 const AugmentKey* augment) = 0;
};

}  // namespace ferro
