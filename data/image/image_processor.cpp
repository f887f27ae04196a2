#include "data/image/image_processor.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "core/error.h"
#include "core/keyed_random.h"

namespace ferro {
namespace {

/// The three channels' value for each of the 256 levels. Arithmetic of the reference (numpy): the level times
/// the rescale factor in double precision, rounded to single; then mean and deviation in single precision.
std::array<std::array<float, 256>, 3> level_table(const ImageProcessorConfig& config) {
  std::array<std::array<float, 256>, 3> table{};
  for (std::size_t channel = 0; channel < 3; ++channel) {
    const float mean = static_cast<float>(config.image_mean[channel]),
                deviation = static_cast<float>(config.image_std[channel]);
    for (std::size_t level = 0; level < 256; ++level) {
      const float scaled = static_cast<float>(static_cast<double>(level) * config.rescale_factor);
      table[channel][level] = (scaled - mean) / deviation;
    }
  }
  return table;
}

/// Mean 0 and variance 1 over all samples of this picture; a flat picture becomes 0.
std::array<std::array<float, 256>, 3> standardised_table(const Picture& picture) {
  double sum = 0.0, squares = 0.0;
  for (const std::uint8_t value : picture.bytes) {
    sum += value;
    squares += static_cast<double>(value) * value;
  }
  const double count = static_cast<double>(picture.bytes.size()), mean = sum / count;
  const double deviation = std::sqrt(std::max(squares / count - mean * mean, 0.0));
  std::array<std::array<float, 256>, 3> table{};
  for (std::size_t level = 0; level < 256; ++level) {
    const float value =
        deviation > 0.0 ? static_cast<float>((static_cast<double>(level) - mean) / deviation) : 0.0F;
    for (auto& channel : table) channel[level] = value;
  }
  return table;
}

Picture as_rgb(const Picture& picture) {
  if (picture.channels == 3) return picture;
  FERRO_CHECK(picture.channels == 1, "a picture of {} channels", picture.channels);
  Picture rgb{picture.height, picture.width, 3, {}};
  rgb.bytes.reserve(picture.bytes.size() * 3);
  for (const std::uint8_t value : picture.bytes) rgb.bytes.insert(rgb.bytes.end(), 3, value);
  return rgb;
}

}  // namespace

std::pair<std::int32_t, std::int32_t> smart_resize(std::int32_t height, std::int32_t width,
                                                   std::int32_t factor, std::int64_t min_pixels,
                                                   std::int64_t max_pixels) {
  FERRO_CHECK(height > 0 && width > 0 && factor > 0, "{} x {} by {}", width, height, factor);
  const double ratio = static_cast<double>(std::max(height, width)) / std::min(height, width);
  if (ratio > 200.0)
    fail(ErrorCode::kData, "the aspect ratio of {} x {} pixels is {}, more than 200", width, height, ratio);
  // Python's round(): ties to even, as the default rounding mode.
  const auto rounded = [factor](std::int32_t side) {
    return std::nearbyint(static_cast<double>(side) / factor) * factor;
  };
  double out_height = rounded(height), out_width = rounded(width);
  const double area = static_cast<double>(height) * width;
  if (out_height * out_width > static_cast<double>(max_pixels)) {
    const double beta = std::sqrt(area / static_cast<double>(max_pixels));
    const auto floored = [&](std::int32_t side) {
      return std::max(static_cast<double>(factor), std::floor(side / beta / factor) * factor);
    };
    out_height = floored(height);
    out_width = floored(width);
  } else if (out_height * out_width < static_cast<double>(min_pixels)) {
    const double beta = std::sqrt(static_cast<double>(min_pixels) / area);
    out_height = std::ceil(height * beta / factor) * factor;
    out_width = std::ceil(width * beta / factor) * factor;
  }
  return {static_cast<std::int32_t>(out_height), static_cast<std::int32_t>(out_width)};
}

ImageInput process_picture(const Picture& picture, const ImageProcessorConfig& config) {
  const std::int32_t patch = config.patch_size, merge = config.merge_size,
                     frames = config.temporal_patch_size;
  Picture sized = as_rgb(picture);
  if (config.forced_size > 0) sized = resize_bicubic(sized, config.forced_size, config.forced_size);
  const auto [height, width] =
      smart_resize(sized.height, sized.width, patch * merge, config.min_pixels, config.max_pixels);
  sized = resize_bicubic(sized, height, width);
  const auto table = config.standardize ? standardised_table(sized) : level_table(config);

  ImageInput input;
  input.grid = {1, height / patch, width / patch};
  input.patch_values = 3 * frames * patch * patch;
  input.pixel_values.resize(static_cast<std::size_t>(input.grid.patches()) *
                            static_cast<std::size_t>(input.patch_values));
  const std::size_t stride = static_cast<std::size_t>(width) * 3;
  float* to = input.pixel_values.data();
  const auto write_patch = [&](std::int32_t row, std::int32_t column) {
    for (std::size_t channel = 0; channel < 3; ++channel) {
      const std::size_t frame_values = static_cast<std::size_t>(patch) * static_cast<std::size_t>(patch);
      const float* first_frame = to;
      for (std::int32_t y = 0; y < patch; ++y) {
        const std::uint8_t* from = sized.bytes.data() + static_cast<std::size_t>(row * patch + y) * stride +
                                   static_cast<std::size_t>(column * patch) * 3 + channel;
        for (std::int32_t x = 0; x < patch; ++x) *to++ = table[channel][from[3 * x]];
      }
      for (std::int32_t frame = 1; frame < frames; ++frame) to = std::copy_n(first_frame, frame_values, to);
    }
  };
  for (std::int32_t block_row = 0; block_row < input.grid.h; block_row += merge)
    for (std::int32_t block_column = 0; block_column < input.grid.w; block_column += merge)
      for (std::int32_t y = 0; y < merge; ++y)
        for (std::int32_t x = 0; x < merge; ++x) write_patch(block_row + y, block_column + x);
  return input;
}

Picture augment(const Picture& picture, const AugmentConfig& config, const AugmentKey& key) {
  if (!config.enabled) return picture;
  KeyedRandom random(key.seed, RandomPurpose::kAugmentation,
                     {static_cast<std::uint64_t>(key.sample), static_cast<std::uint64_t>(key.epoch)});
  const bool flip = random.uniform() < config.flip_probability;
  const double shift_x = random.uniform(-config.max_shift, config.max_shift),
               shift_y = random.uniform(-config.max_shift, config.max_shift);
  const double brightness = 255.0 * random.uniform(-config.max_brightness, config.max_brightness);
  const double contrast = 1.0 + random.uniform(-config.max_contrast, config.max_contrast);
  const std::int32_t dx = static_cast<std::int32_t>(std::lround(shift_x * picture.width));
  const std::int32_t dy = static_cast<std::int32_t>(std::lround(shift_y * picture.height));
  std::array<std::uint8_t, 256> levels{};
  for (std::size_t level = 0; level < 256; ++level) {
    const double value = 127.5 + contrast * (static_cast<double>(level) - 127.5) + brightness;
    levels[level] = static_cast<std::uint8_t>(std::lround(std::clamp(value, 0.0, 255.0)));
  }
  Picture out{picture.height, picture.width, picture.channels, {}};
  out.bytes.resize(picture.bytes.size());
  const std::size_t channels = static_cast<std::size_t>(picture.channels),
                    stride = static_cast<std::size_t>(picture.width) * channels;
  std::size_t at = 0;
  for (std::int32_t y = 0; y < picture.height; ++y) {
    const std::size_t row = static_cast<std::size_t>(std::clamp(y - dy, 0, picture.height - 1)) * stride;
    for (std::int32_t x = 0; x < picture.width; ++x) {
      std::int32_t column = std::clamp(x - dx, 0, picture.width - 1);
      if (flip) column = picture.width - 1 - column;
      for (std::size_t channel = 0; channel < channels; ++channel)
        out.bytes[at++] = levels[picture.bytes[row + static_cast<std::size_t>(column) * channels + channel]];
    }
  }
  return out;
}

}  // namespace ferro
