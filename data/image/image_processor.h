#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "data/image_input.h"
#include "data/image_processor_config.h"

namespace ferro {

/// 8-bit picture, row-major, `channels` interleaved (RGB order).
struct Picture {
  std::int32_t height = 0, width = 0, channels = 3;
  std::vector<std::uint8_t> bytes;  ///< [height, width, channels]
};

/// Bytes of a PNG, JPEG, WebP or BMP -> RGB: EXIF orientation applied, alpha composed on white, palette, grey, 16-bit and CMYK
/// converted. The header's dimensions are checked against `max_pixels` before anything is decoded. `name` is for messages.
/// Error{kData}: not an image, truncated, too large.
Picture decode_image(std::span<const std::byte> encoded, std::int64_t max_pixels, std::string_view name);

/// Pillow 13's Image.resize(BICUBIC) on 8 bit, bit for bit: separable, antialiased, fixed-point coefficients, and its rule for which
/// pass comes first (vertical first when h_out < h_in and h_in - h_out > 2 * (w_in - w_out)).
Picture resize_bicubic(const Picture& picture, std::int32_t height, std::int32_t width);

/// Height and width, both multiples of `factor`, area within [min_pixels, max_pixels], aspect kept. Source: Qwen2-VL's smart_resize.
/// Error{kData}: aspect ratio beyond 200.
std::pair<std::int32_t, std::int32_t> smart_resize(std::int32_t height, std::int32_t width, std::int32_t factor, std::int64_t min_pixels,
                                                   std::int64_t max_pixels);

/// Picture -> patches, by the config: resize, rescale, normalise, patch order of Qwen2-VL.
ImageInput process_picture(const Picture& picture, const ImageProcessorConfig& config);

/// Augmentation of small faces in training: horizontal flip, shift, brightness and contrast; a pure function of (seed, sample, epoch).
struct AugmentConfig {
  bool enabled = false;
  double flip_probability = 0.5;
  double max_shift = 0.08;       ///< Share of the side.
  double max_brightness = 0.15;  ///< Share of 255, added.
  double max_contrast = 0.15;    ///< Factor 1 +- this.
  template <class Visitor>
  void visit(Visitor& v) {
    v.field("enabled", enabled, "Augment training images (never those of evaluation).");
    v.field("flip_probability", flip_probability, {.min = 0.0, .max = 1.0}, "Chance of a horizontal flip.");
    v.field("max_shift", max_shift, {.min = 0.0, .max = 0.5}, "Largest shift as a share of the side.");
    v.field("max_brightness", max_brightness, {.min = 0.0, .max = 1.0}, "Largest brightness change as a share of full scale.");
    v.field("max_contrast", max_contrast, {.min = 0.0, .max = 1.0}, "Contrast factor is drawn from 1 +- this.");
  }
};
Picture augment(const Picture& picture, const AugmentConfig& config, std::uint64_t seed, std::int64_t sample, std::int64_t epoch);

/// Reads, decodes and processes files; keeps the last `cache_entries` results (thread-safe).
std::unique_ptr<ImageLoader> make_image_loader(const ImageProcessorConfig& config, std::size_t cache_entries);

}  // namespace ferro
