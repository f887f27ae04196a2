#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace ferro {

enum class ImageFormat { kPng, kJpeg, kWebp, kBmp };

/// What an encoded image says of itself before anything is decoded.
struct ImageHeader {
  ImageFormat format = ImageFormat::kPng;
  std::int64_t width = 0, height = 0;  ///< As stored, before orientation.
  bool alpha = true;    ///< False for a PNG that Pillow does not read as RGBA: without an alpha channel,
                        ///< whatever colour it marks as transparent, and 8-bit grey with one.
  bool cmyk = false;    ///< A JPEG of four components.
  int orientation = 1;  ///< EXIF's: 1 upright; 2 to 8 mirrored or turned.
};

/// Walks the container (PNG chunks, JPEG segments, WebP chunks, BMP header) without decoding. Error{kData}
/// naming `name`: empty, no known format, a part that ends early (truncated), dimensions of 0, an animated
/// WebP, a JPEG of two frames or of more than 100 scans.
ImageHeader read_image_header(std::span<const std::byte> encoded, std::string_view name);

}  // namespace ferro
