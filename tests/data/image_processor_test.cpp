#include "data/image/image_processor.h"

#include <algorithm>

#include <catch2/catch.hpp>

#include "core/error.h"
#include "tests/data/image_encoders.h"

namespace ferro {

using testing::Bytes;

TEST_CASE("resizing to the same size changes nothing and a flat picture stays flat") {
  Picture picture{3, 5, 3, Bytes(45, 200)};
  picture.bytes[7] = 10;
  CHECK(resize_bicubic(picture, 3, 5).bytes == picture.bytes);
  const Picture flat{3, 5, 1, Bytes(15, 200)};
  const Picture resized = resize_bicubic(flat, 7, 2);
  CHECK(resized.bytes == Bytes(14, 200));
}

TEST_CASE(
    "the vertical pass comes first only when it takes away more than twice as many rows as the other takes "
    "columns") {
  Picture noise{40, 40, 1, {}};
  std::uint32_t state = 1;
  for (int i = 0; i < 1600; ++i) {
    state = state * 1664525U + 1013904223U;
    noise.bytes.push_back(static_cast<std::uint8_t>(state >> 24));
  }
  const auto vertical_first = [&](std::int32_t h, std::int32_t w) {
    return resize_bicubic(resize_bicubic(noise, h, 40), h, w).bytes;
  };
  const auto horizontal_first = [&](std::int32_t h, std::int32_t w) {
    return resize_bicubic(resize_bicubic(noise, 40, w), h, w).bytes;
  };
  REQUIRE(vertical_first(20, 30) != horizontal_first(20, 30));
  CHECK(resize_bicubic(noise, 20, 30).bytes ==
        horizontal_first(20, 30));  // 20 rows, 10 columns: not more than twice.
  CHECK(resize_bicubic(noise, 20, 31).bytes == vertical_first(20, 31));  // 20 rows, 9 columns.
}

TEST_CASE("smart_resize rounds to even multiples, and refuses long strips") {
  // 70 / 28 = 2.5 rounds to 2, 98 / 28 = 3.5 rounds to 4 (Python's round).
  CHECK(smart_resize(70, 98, 28, 1, 1 << 20) == std::pair<std::int32_t, std::int32_t>{56, 112});
  CHECK_THROWS_AS(smart_resize(1, 201, 28, 1, 1 << 20), Error);
}

TEST_CASE("patches come in merge blocks, channel by channel, the frame repeated") {
  // 8 x 8 picture, patch 2, merge 2: 4 x 4 patches. Red holds the pixel's number, green is 0, blue 255.
  Picture picture{8, 8, 3, {}};
  for (int i = 0; i < 64; ++i)
    picture.bytes.insert(picture.bytes.end(), {static_cast<std::uint8_t>(i), 0, 255});
  ImageProcessorConfig config;
  config.patch_size = 2;
  config.min_pixels = 16;
  config.image_mean = {0.0, 0.0, 0.0};
  config.image_std = {1.0, 1.0, 1.0};
  config.rescale_factor = 1.0;
  const ImageInput input = process_picture(picture, config);
  CHECK(input.grid == GridThw{1, 4, 4});
  CHECK(input.patch_values == 24);
  REQUIRE(input.pixel_values.size() == 16 * 24);
  const auto row = [&](std::size_t patch) {
    return std::vector<float>(input.pixel_values.begin() + static_cast<std::ptrdiff_t>(patch * 24),
                              input.pixel_values.begin() + static_cast<std::ptrdiff_t>(patch * 24 + 24));
  };
  CHECK(row(0) == std::vector<float>{0, 1, 8, 9, 0,   1,   8,   9,   0,   0,   0,   0,
                                     0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255});
  // Third of the first block: one patch row down. Fifth: the next block to the right.
  CHECK(row(2)[0] == 16.0F);
  CHECK(row(4)[0] == 4.0F);
  CHECK(row(8)[0] == 32.0F);
}

TEST_CASE("a standardised picture has mean 0 and variance 1, a flat one is 0") {
  Picture picture{8, 8, 1, {}};
  for (int i = 0; i < 64; ++i) picture.bytes.push_back(static_cast<std::uint8_t>(3 * i + 20));
  ImageProcessorConfig config;
  config.patch_size = 2;
  config.min_pixels = 16;
  config.standardize = true;
  const ImageInput input = process_picture(picture, config);
  double sum = 0.0, squares = 0.0;
  for (const float value : input.pixel_values) {
    sum += value;
    squares += static_cast<double>(value) * value;
  }
  const double count = static_cast<double>(input.pixel_values.size());
  CHECK(sum / count == Approx(0.0).margin(1e-6));
  CHECK(squares / count == Approx(1.0).epsilon(1e-6));
  picture.bytes.assign(64, 99);
  const ImageInput flat = process_picture(picture, config);
  CHECK(std::all_of(flat.pixel_values.begin(), flat.pixel_values.end(),
                    [](float value) { return value == 0.0F; }));
}

TEST_CASE("augmentation is a pure function of its key and keeps the picture's size") {
  Picture picture{12, 10, 1, {}};
  for (int i = 0; i < 120; ++i) picture.bytes.push_back(static_cast<std::uint8_t>(2 * i));
  AugmentConfig config;
  CHECK(augment(picture, config, {1, 2, 3}).bytes == picture.bytes);
  config.enabled = true;
  const Picture once = augment(picture, config, {1, 2, 3});
  CHECK(once.bytes.size() == picture.bytes.size());
  CHECK(once.bytes == augment(picture, config, {1, 2, 3}).bytes);
  CHECK(once.bytes != augment(picture, config, {1, 2, 4}).bytes);
  CHECK(once.bytes != augment(picture, config, {1, 3, 3}).bytes);

  config.max_shift = config.max_brightness = config.max_contrast = 0.0;
  config.flip_probability = 1.0;
  const Picture flipped = augment(picture, config, {1, 2, 3});
  CHECK(flipped.bytes[0] == picture.bytes[9]);
  CHECK(flipped.bytes[119] == picture.bytes[110]);
}

}  // namespace ferro
