#pragma once

#include <memory>
#include <span>

#include "data/image_input.h"

namespace ferro {

/// A video from its frames, each processed as a still image: `temporal_patch_size` frames share a patch, the
/// last one is repeated to fill it. The frames are `1 / frames_per_second` apart. Error{kData}: no frame, or
/// frames of different grids.
std::shared_ptr<const ImageInput> video_of_frames(std::span<const std::shared_ptr<const ImageInput>> frames,
                                                  std::int32_t temporal_patch_size, double frames_per_second);

}  // namespace ferro
