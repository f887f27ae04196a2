#include "data/video_frames.h"

#include <vector>

#include <catch2/catch.hpp>

#include "tests/core/expect_error.h"

namespace ferro {
namespace {

/// A still of 1 x `width` patches of one pixel, two temporal copies: channel c of patch p has the value
/// 100 * frame + 10 * p + c.
std::shared_ptr<const ImageInput> still(int frame, std::int32_t width = 2) {
  auto image = std::make_shared<ImageInput>();
  image->grid = {1, 1, width};
  image->patch_values = 3 * 2;
  for (int patch = 0; patch < width; ++patch)
    for (int channel = 0; channel < 3; ++channel)
      for (int copy = 0; copy < 2; ++copy)
        image->pixel_values.push_back(static_cast<float>(100 * frame + 10 * patch + channel));
  return image;
}

TEST_CASE("two frames share a patch, channel by channel, and the last one fills an odd number up") {
  const std::vector<std::shared_ptr<const ImageInput>> frames{still(1), still(2), still(3)};
  const auto video = video_of_frames(frames, 2, 4.0);
  CHECK(video->video);
  CHECK(video->grid == GridThw{2, 1, 2});
  CHECK(video->patch_values == 6);
  CHECK(video->second_per_grid == 0.5);
  CHECK(video->pixel_values ==
        std::vector<float>{100, 200, 101, 201, 102, 202, 110, 210, 111, 211, 112, 212,    // Frames 1 and 2.
                           300, 300, 301, 301, 302, 302, 310, 310, 311, 311, 312, 312});  // Frame 3 twice.
}

TEST_CASE("frames of different sizes, or none, are no video") {
  const std::vector<std::shared_ptr<const ImageInput>> frames{still(1), still(2, 4)};
  testing::expect_error(ErrorCode::kData, [&] { video_of_frames(frames, 2, 2.0); },
                        {"frame 1", "1x4", "1x2"});
  testing::expect_error(ErrorCode::kData, [] { video_of_frames({}, 2, 2.0); }, {"without frames"});
}

}  // namespace
}  // namespace ferro
