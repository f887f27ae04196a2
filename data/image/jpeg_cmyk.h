#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include "data/image/image_processor.h"

namespace ferro {

/// A JPEG of four components (CMYK or YCCK, inverted as Adobe writes it) -> RGB with Pillow's arithmetic,
/// which OpenCV's differs from by up to two levels. Error{kData} naming `name`: damaged, or of another size
/// than `height` x `width`.
Picture decode_cmyk_jpeg(std::span<const std::byte> encoded, std::int32_t height, std::int32_t width,
                         std::string_view name);

}  // namespace ferro
