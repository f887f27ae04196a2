#include "data/image/jpeg_cmyk.h"

#include <array>
#include <csetjmp>
#include <cstdint>
#include <cstdio>
#include <vector>

#include <jpeglib.h>

#include "core/error.h"

namespace ferro {
namespace {

constexpr int kComponents = 4;

/// What libjpeg calls instead of ending the program: the way out of its functions is a jump.
struct Failure {
  jpeg_error_mgr manager{};
  std::jmp_buf way_out{};
  std::array<char, JMSG_LENGTH_MAX> message{};
};

void leave(j_common_ptr info) {
  auto* failure = reinterpret_cast<Failure*>(info->err);
  info->err->format_message(info, failure->message.data());
  std::longjmp(failure->way_out, 1);
}

void say_nothing(j_common_ptr, int) {}

/// Fills samples [height, width, 4]; false with failure.message otherwise. No object in here has a
/// destructor: the jump would pass it by.
bool read_samples(jpeg_decompress_struct& info, Failure& failure, std::span<const std::byte> encoded,
                  std::uint8_t* samples, std::int32_t height, std::int32_t width) {
  info.err = jpeg_std_error(&failure.manager);
  failure.manager.error_exit = leave;
  failure.manager.emit_message = say_nothing;
  if (setjmp(failure.way_out) != 0) return false;
  jpeg_create_decompress(&info);
  jpeg_mem_src(&info, reinterpret_cast<const unsigned char*>(encoded.data()),
               static_cast<unsigned long>(encoded.size()));
  jpeg_read_header(&info, TRUE);
  info.out_color_space = JCS_CMYK;
  jpeg_start_decompress(&info);
  if (info.output_height != static_cast<JDIMENSION>(height) ||
      info.output_width != static_cast<JDIMENSION>(width) || info.output_components != kComponents) {
    std::snprintf(failure.message.data(), failure.message.size(), "%u x %u pixels of %d components",
                  info.output_width, info.output_height, info.output_components);
    return false;
  }
  while (info.output_scanline < info.output_height) {
    JSAMPROW row = samples + static_cast<std::size_t>(info.output_scanline) *
                                 static_cast<std::size_t>(width) * kComponents;
    jpeg_read_scanlines(&info, &row, 1);
  }
  jpeg_finish_decompress(&info);
  return true;
}

/// Pillow's conversion: black minus ink's share of it, rounded. Stored samples are 255 minus ink.
std::uint8_t channel_of(std::uint32_t stored, std::uint32_t stored_black) {
  const std::uint32_t product = (255U - stored) * stored_black + 128U;
  return static_cast<std::uint8_t>(stored_black - (((product >> 8) + product) >> 8));
}

}  // namespace

Picture decode_cmyk_jpeg(std::span<const std::byte> encoded, std::int32_t height, std::int32_t width,
                         std::string_view name) {
  const std::size_t pixels = static_cast<std::size_t>(height) * static_cast<std::size_t>(width);
  std::vector<std::uint8_t> samples(pixels * kComponents);
  jpeg_decompress_struct info{};
  Failure failure;
  const bool read = read_samples(info, failure, encoded, samples.data(), height, width);
  jpeg_destroy_decompress(&info);
  if (!read)
    fail(ErrorCode::kData, "{}: the image is damaged and cannot be decoded: {}", name,
         failure.message.data());
  Picture picture{height, width, 3, {}};
  picture.bytes.reserve(pixels * 3);
  for (std::size_t i = 0; i < samples.size(); i += kComponents)
    for (std::size_t channel = 0; channel < 3; ++channel)
      picture.bytes.push_back(channel_of(samples[i + channel], samples[i + 3]));
  return picture;
}

}  // namespace ferro
