#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "data/augment_config.h"
#include "data/image_input.h"
#include "data/image_processor_config.h"

namespace ferro {

/// 8-bit picture, row-major, `channels` interleaved (RGB order).
struct Picture {
  std::int32_t height = 0, width = 0, channels = 3;
  std::vector<std::uint8_t> bytes;  ///< [height, width, channels]
};

/// Bytes of a PNG, JPEG, WebP or BMP -> RGB, the bytes that Pillow 13 and qwen_vl_utils give: EXIF
/// orientation applied, RGBA composed on white (8-bit grey with alpha loses it, a palette's transparent entry
/// keeps its colour), palette, grey, 16-bit (high byte; 16-bit grey is cut off at 255) and CMYK converted.
/// The header's dimensions are checked against `max_pixels` before anything is decoded. `name` is for
/// messages. Error{kData}: not an image, truncated, too large.
Picture decode_image(std::span<const std::byte> encoded, std::int64_t max_pixels, std::string_view name);

/// Pillow 13's Image.resize(BICUBIC) on 8 bit, bit for bit: separable, antialiased, fixed-point coefficients,
/// and its rule for which pass comes first (vertical first when h_out < h_in and h_in - h_out > 2 * (w_in -
/// w_out)).
Picture resize_bicubic(const Picture& picture, std::int32_t height, std::int32_t width);

/// Height and width, both multiples of `factor`, area within [min_pixels, max_pixels] (above it where a thin
/// strip's side would fall below `factor`), aspect kept. Source: Qwen2-VL's smart_resize. Error{kData}:
/// aspect ratio beyond 200.
std::pair<std::int32_t, std::int32_t> smart_resize(std::int32_t height, std::int32_t width,
                                                   std::int32_t factor, std::int64_t min_pixels,
                                                   std::int64_t max_pixels);

/// Picture -> patches, by the config: resize, rescale, normalise, patch order of Qwen2-VL.
ImageInput process_picture(const Picture& picture, const ImageProcessorConfig& config);

/// A pure function of picture, config and key.
Picture augment(const Picture& picture, const AugmentConfig& config, const AugmentKey& key);

/// Reads, decodes and processes files; keeps the last `cache_entries` decoded pictures and results
/// (thread-safe).
std::unique_ptr<ImageLoader> make_image_loader(const ImageProcessorConfig& config,
                                               const AugmentConfig& augmentation, std::size_t cache_entries);

}  // namespace ferro
