#include "data/image/image_decode.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>

#include "core/error.h"
#include "data/image/image_header.h"
#include "data/image/jpeg_cmyk.h"

namespace ferro {
namespace {

/// 16 bits as Pillow's conversion: the high byte, but a single channel is cut off at 255.
cv::Mat to_8_bit(const cv::Mat& stored, std::string_view name) {
  if (stored.depth() == CV_8U) return stored;
  if (stored.depth() != CV_16U)
    fail(ErrorCode::kData, "{}: samples of an unknown depth ({})", name, stored.depth());
  cv::Mat bytes(stored.rows, stored.cols, CV_MAKETYPE(CV_8U, stored.channels()));
  for (int row = 0; row < stored.rows; ++row) {
    const std::uint16_t* from = stored.ptr<std::uint16_t>(row);
    std::uint8_t* to = bytes.ptr<std::uint8_t>(row);
    for (int i = 0; i < stored.cols * stored.channels(); ++i) {
      const int level = stored.channels() == 1 ? std::min<int>(from[i], 255) : from[i] >> 8;
      to[i] = static_cast<std::uint8_t>(level);
    }
  }
  return bytes;
}

/// Pillow's paste with the alpha band as mask: each channel is rounded once over the sum of both products.
std::uint8_t over_white(std::uint32_t value, std::uint32_t alpha) {
  const std::uint32_t sum = value * alpha + 255U * (255U - alpha) + 128U;
  return static_cast<std::uint8_t>(((sum >> 8) + sum) >> 8);
}

void copy_as_rgb(const cv::Mat& stored, bool alpha, Picture& picture) {
  std::size_t at = 0;
  for (int row = 0; row < stored.rows; ++row) {
    const std::uint8_t* from = stored.ptr<std::uint8_t>(row);
    for (int column = 0; column < stored.cols; ++column, at += 3) {
      if (stored.channels() == 1) {
        std::memset(&picture.bytes[at], from[column], 3);
        continue;
      }
      const std::uint8_t* pixel = from + static_cast<std::ptrdiff_t>(column) * stored.channels();
      for (std::size_t channel = 0; channel < 3; ++channel) {
        const std::uint8_t value = pixel[2 - channel];
        picture.bytes[at + channel] = stored.channels() == 4 && alpha ? over_white(value, pixel[3]) : value;
      }
    }
  }
}

/// OpenCV takes a file that libwebp does not know after all for DICOM or DTED by four bytes inside it, and
/// those decoders allocate what the file asks for.
void refuse_second_format(std::span<const std::byte> encoded, std::string_view name) {
  constexpr std::pair<std::size_t, const char*> kMarks[] = {{128, "DICM"}, {140, "DTED"}};
  for (const auto& [place, mark] : kMarks)
    if (encoded.size() >= place + 4 && std::memcmp(encoded.data() + place, mark, 4) == 0)
      fail(ErrorCode::kData, "{}: a WebP that is marked as {} as well", name, mark);
}

cv::Mat decode_stored(std::span<const std::byte> encoded, ImageFormat format, std::string_view name) {
  if (format == ImageFormat::kWebp) refuse_second_format(encoded, name);
  const cv::Mat input(1, static_cast<int>(encoded.size()), CV_8U, const_cast<std::byte*>(encoded.data()));
  // Orientation is ours. The fourth byte of a BMP pixel is padding, not alpha.
  const int mode =
      format == ImageFormat::kBmp ? cv::IMREAD_COLOR | cv::IMREAD_IGNORE_ORIENTATION : cv::IMREAD_UNCHANGED;
  try {
    return cv::imdecode(input, mode);
  } catch (const cv::Exception& error) {
    fail(ErrorCode::kData, "{}: the image cannot be decoded: {}", name, error.what());
  }
}

}  // namespace

Picture decode_image(std::span<const std::byte> encoded, std::int64_t max_pixels, std::string_view name) {
  const ImageHeader header = read_image_header(encoded, name);
  if (header.width > max_pixels / header.height)
    fail(ErrorCode::kData,
         "{}: the image's header says {} x {} pixels, more than the {} allowed (ferro_max_decoded_pixels); "
         "not "
         "decoded",
         name, header.width, header.height, max_pixels);
  if (encoded.size() > std::size_t{1} << 30)
    fail(ErrorCode::kData, "{}: {} bytes are too many for one image", name, encoded.size());
  if (header.cmyk) {
    return orient_picture(decode_cmyk_jpeg(encoded, static_cast<std::int32_t>(header.height),
                                           static_cast<std::int32_t>(header.width), name),
                          header.orientation);
  }
  const cv::Mat stored = decode_stored(encoded, header.format, name);
  if (stored.empty())
    fail(ErrorCode::kData, "{}: the image is damaged or truncated and cannot be decoded", name);
  if (stored.rows != header.height || stored.cols != header.width)
    fail(ErrorCode::kData, "{}: decoded to {} x {} pixels, the header says {} x {}", name, stored.cols,
         stored.rows, header.width, header.height);
  Picture picture;
  picture.height = stored.rows;
  picture.width = stored.cols;
  picture.bytes.resize(static_cast<std::size_t>(stored.rows) * static_cast<std::size_t>(stored.cols) * 3);
  copy_as_rgb(to_8_bit(stored, name), header.alpha, picture);
  return orient_picture(std::move(picture), header.orientation);
}

Picture orient_picture(Picture picture, int orientation) {
  if (orientation <= 1 || orientation > 8) return picture;
  const bool transposed = orientation >= 5;
  Picture upright;
  upright.channels = picture.channels;
  upright.height = transposed ? picture.width : picture.height;
  upright.width = transposed ? picture.height : picture.width;
  upright.bytes.resize(picture.bytes.size());
  // Where the upright pixel (y, x) lies in the stored picture: EXIF 2.3, tag 274.
  const bool mirror_rows = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  const bool mirror_columns = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const std::size_t channels = static_cast<std::size_t>(picture.channels);
  std::size_t at = 0;
  for (std::int32_t y = 0; y < upright.height; ++y) {
    for (std::int32_t x = 0; x < upright.width; ++x, at += channels) {
      std::int32_t row = transposed ? x : y, column = transposed ? y : x;
      if (mirror_rows) row = picture.height - 1 - row;
      if (mirror_columns) column = picture.width - 1 - column;
      const std::size_t from = (static_cast<std::size_t>(row) * static_cast<std::size_t>(picture.width) +
                                static_cast<std::size_t>(column)) *
                               channels;
      std::memcpy(&upright.bytes[at], &picture.bytes[from], channels);
    }
  }
  return upright;
}

}  // namespace ferro
