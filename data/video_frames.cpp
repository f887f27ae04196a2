#include "data/video_frames.h"

#include <algorithm>
#include <vector>

#include "core/error.h"

namespace ferro {
namespace {

constexpr std::size_t kChannels = 3;

/// One patch of a video from those of its frames: within a channel, frame after frame. A still holds each
/// frame's values `stills.size()` times.
void append_patch(std::span<const float* const> stills, std::size_t values_per_frame,
                  std::vector<float>& out) {
  const std::size_t channel_values = stills.size() * values_per_frame;
  for (std::size_t channel = 0; channel < kChannels; ++channel)
    for (const float* still : stills) {
      const float* begin = still + channel * channel_values;
      out.insert(out.end(), begin, begin + values_per_frame);
    }
}

}  // namespace

std::shared_ptr<const ImageInput> video_of_frames(std::span<const std::shared_ptr<const ImageInput>> frames,
                                                  std::int32_t temporal_patch_size,
                                                  double frames_per_second) {
  FERRO_CHECK(temporal_patch_size > 0 && frames_per_second > 0, "{} frames to a patch, {} a second",
              temporal_patch_size, frames_per_second);
  if (frames.empty()) fail(ErrorCode::kData, "a video without frames");
  const ImageInput& first = *frames.front();
  for (std::size_t i = 0; i < frames.size(); ++i)
    if (frames[i]->grid != first.grid)
      fail(ErrorCode::kData, "frame {} of the video has {}x{} patches, the first one {}x{}", i,
           frames[i]->grid.h, frames[i]->grid.w, first.grid.h, first.grid.w);

  const auto depth = static_cast<std::size_t>(temporal_patch_size),
             row_values = static_cast<std::size_t>(first.patch_values);
  FERRO_CHECK(row_values % (kChannels * depth) == 0, "{} values to a patch of {} frames", row_values, depth);
  auto video = std::make_shared<ImageInput>();
  video->video = true;
  video->patch_values = first.patch_values;
  video->second_per_grid = static_cast<double>(temporal_patch_size) / frames_per_second;
  video->grid = first.grid;
  video->grid.t = static_cast<std::int32_t>((frames.size() + depth - 1) / depth);
  std::vector<const float*> stills(depth);
  for (std::size_t begin = 0; begin < frames.size(); begin += depth)
    for (std::size_t row = 0; row < static_cast<std::size_t>(first.grid.patches()); ++row) {
      for (std::size_t i = 0; i < depth; ++i)
        stills[i] = frames[std::min(begin + i, frames.size() - 1)]->pixel_values.data() + row * row_values;
      append_patch(stills, row_values / (kChannels * depth), video->pixel_values);
    }
  return video;
}

}  // namespace ferro
