#include "data/image/image_header.h"

#include <cstdlib>
#include <cstring>
#include <limits>

#include "core/error.h"

namespace ferro {
namespace {

/// Bounds-checked reads; past the end means that the file is truncated.
class ByteReader {
 public:
  ByteReader(std::span<const std::byte> bytes, std::string_view name) : bytes_(bytes), name_(name) {}

  std::size_t size() const { return bytes_.size(); }
  std::uint32_t byte(std::size_t at) const {
    require(at, 1);
    return static_cast<std::uint32_t>(bytes_[at]);
  }
  std::uint32_t big(std::size_t at, std::size_t count) const {
    require(at, count);
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < count; ++i) value = (value << 8) | byte(at + i);
    return value;
  }
  std::uint32_t little(std::size_t at, std::size_t count) const {
    require(at, count);
    std::uint32_t value = 0;
    for (std::size_t i = count; i > 0; --i) value = (value << 8) | byte(at + i - 1);
    return value;
  }
  bool text_at(std::size_t at, std::string_view text) const {
    return at + text.size() <= bytes_.size() &&
           std::memcmp(bytes_.data() + at, text.data(), text.size()) == 0;
  }
  void require(std::size_t at, std::size_t count) const {
    if (at > bytes_.size() || count > bytes_.size() - at)
      fail(ErrorCode::kData, "{}: the image is truncated: byte {} is needed, the file has {}", name_,
           at + count, bytes_.size());
  }
  std::span<const std::byte> part(std::size_t at, std::size_t count) const {
    require(at, count);
    return bytes_.subspan(at, count);
  }
  std::string_view name() const { return name_; }

 private:
  std::span<const std::byte> bytes_;
  std::string_view name_;
};

/// The orientation tag (0x0112) of a TIFF block (EXIF 2.3, 4.6); 1 when absent or damaged: orientation is a
/// hint.
int exif_orientation(std::span<const std::byte> tiff) {
  try {
    const ByteReader reader(tiff, "EXIF");
    const bool little = reader.text_at(0, "II");
    if (!little && !reader.text_at(0, "MM")) return 1;
    const auto number = [&](std::size_t at, std::size_t count) {
      return little ? reader.little(at, count) : reader.big(at, count);
    };
    const std::size_t directory = number(4, 4);
    const std::uint32_t entries = number(directory, 2);
    for (std::uint32_t i = 0; i < entries; ++i) {
      const std::size_t entry = directory + 2 + 12 * std::size_t{i};
      if (number(entry, 2) != 0x0112) continue;
      const std::uint32_t value = number(entry + 8, 2);
      return value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
    }
  } catch (const Error&) {
    return 1;
  }
  return 1;
}

ImageHeader read_png(const ByteReader& reader) {
  ImageHeader header{ImageFormat::kPng};
  if (!reader.text_at(12, "IHDR")) {
    reader.require(8, 25);
    fail(ErrorCode::kData, "{}: a PNG whose first chunk is not IHDR", reader.name());
  }
  header.width = reader.big(16, 4);
  header.height = reader.big(20, 4);
  constexpr std::uint32_t kGreyAlpha = 4, kRgba = 6;
  const std::uint32_t depth = reader.byte(24), colour_type = reader.byte(25);
  header.alpha = colour_type == kRgba || (colour_type == kGreyAlpha && depth == 16);
  for (std::size_t at = 8;;) {
    const std::size_t length = reader.big(at, 4);
    reader.require(at + 8, length + 4);
    if (reader.text_at(at + 4, "IEND")) break;
    if (reader.text_at(at + 4, "eXIf")) header.orientation = exif_orientation(reader.part(at + 8, length));
    at += 12 + length;
  }
  return header;
}

bool starts_frame(std::uint32_t marker) {
  return marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc;
}

/// The first byte after entropy-coded data that belongs to a marker other than a stuffed zero or a restart.
std::size_t skip_entropy_coded(const ByteReader& reader, std::size_t at) {
  while (true) {
    if (reader.byte(at) == 0xff) {
      const std::uint32_t next = reader.byte(at + 1);
      if (next != 0 && next != 0xff && !(next >= 0xd0 && next <= 0xd7)) return at;
    }
    ++at;
  }
}

/// The dimensions. A second frame header would name others than those that are decoded.
void read_frame(const ByteReader& reader, std::size_t at, ImageHeader& header) {
  if (header.width != 0 || header.height != 0)
    fail(ErrorCode::kData, "{}: a second JPEG frame header at byte {}", reader.name(), at);
  header.height = reader.big(at + 5, 2);
  header.width = reader.big(at + 7, 2);
  header.cmyk = reader.byte(at + 9) == 4;
}

ImageHeader read_jpeg(const ByteReader& reader) {
  constexpr int kMaxScans = 100;  // Each costs time in proportion to the pixels, whatever its length.
  int scans = 0;
  ImageHeader header{ImageFormat::kJpeg};
  for (std::size_t at = 2;;) {
    if (reader.byte(at) != 0xff)
      fail(ErrorCode::kData, "{}: not a JPEG marker at byte {}", reader.name(), at);
    const std::uint32_t marker = reader.byte(at + 1);
    if (marker == 0xff || marker == 0x01 || (marker >= 0xd0 && marker <= 0xd8)) {
      at += marker == 0xff ? 1 : 2;
      continue;
    }
    if (marker == 0xd9) break;
    const std::size_t length = reader.big(at + 2, 2);
    if (length < 2)
      fail(ErrorCode::kData, "{}: a JPEG segment of length {} at byte {}", reader.name(), length, at);
    reader.require(at + 2, length);
    if (starts_frame(marker)) read_frame(reader, at, header);
    if (marker == 0xe1 && length >= 16 && reader.text_at(at + 4, std::string_view("Exif\0\0", 6)))
      header.orientation = exif_orientation(reader.part(at + 10, length - 8));
    at += 2 + length;
    if (marker != 0xda) continue;
    if (++scans > kMaxScans)
      fail(ErrorCode::kData, "{}: a JPEG of more than {} scans", reader.name(), kMaxScans);
    at = skip_entropy_coded(reader, at);
  }
  return header;
}

/// The frame of a WebP: RFC 9649, sections 2.5 and 2.6, as strictly as libwebp. OpenCV asks its other
/// decoders (DICOM's among them) about a file that libwebp does not know.
void read_webp_frame(const ByteReader& reader, std::size_t chunk, ImageHeader& header) {
  const std::size_t length = reader.little(chunk + 4, 4), body = chunk + 8;
  std::int64_t width = 0, height = 0;
  bool known = false;
  if (reader.text_at(chunk, "VP8L")) {
    const std::uint32_t bits = reader.little(body + 1, 4);
    known = length >= 5 && reader.byte(body) == 0x2fU && bits >> 29 == 0;
    width = std::int64_t{bits & 0x3fffU} + 1;
    height = std::int64_t{(bits >> 14) & 0x3fffU} + 1;
  } else {
    const std::uint32_t tag = reader.little(body, 3);
    const bool key_frame = (tag & 1U) == 0, shown = (tag & 16U) != 0;
    known = length >= 10 && key_frame && shown && ((tag >> 1) & 7U) <= 3 && tag >> 5 < length &&
            reader.text_at(body + 3, "\x9d\x01\x2a");
    width = reader.little(body + 6, 2) & 0x3fffU;
    height = reader.little(body + 8, 2) & 0x3fffU;
  }
  const bool fits = header.width == 0 || (header.width == width && header.height == height);
  if (!known || !fits) fail(ErrorCode::kData, "{}: a WebP whose frame header is wrong", reader.name());
  header.width = width;
  header.height = height;
}

ImageHeader read_webp(const ByteReader& reader) {
  ImageHeader header{ImageFormat::kWebp};
  reader.require(8, reader.little(4, 4));
  const std::size_t end = 8 + std::size_t{reader.little(4, 4)};
  const bool extended = reader.text_at(12, "VP8X");
  bool frame = false;
  for (std::size_t at = 12; at + 8 <= end;) {
    const std::size_t length = reader.little(at + 4, 4), body = at + 8;
    reader.require(body, length);
    if (at == 12 && extended) {
      constexpr std::uint32_t kAnimation = 2, kHeaderBytes = 10;
      if (length != kHeaderBytes)
        fail(ErrorCode::kData, "{}: a WebP header of {} bytes", reader.name(), length);
      if ((reader.byte(body) & kAnimation) != 0)
        fail(ErrorCode::kData, "{}: an animated WebP; only still images are read", reader.name());
      header.width = std::int64_t{reader.little(body + 4, 3)} + 1;
      header.height = std::int64_t{reader.little(body + 7, 3)} + 1;
    } else if (!frame && (reader.text_at(at, "VP8L") || reader.text_at(at, "VP8 "))) {
      read_webp_frame(reader, at, header);
      frame = true;
    } else if (at == 12) {
      break;  // A simple file begins with its frame.
    } else if (reader.text_at(at, "EXIF")) {
      const std::size_t prefix = reader.text_at(body, std::string_view("Exif\0\0", 6)) ? 6 : 0;
      header.orientation = exif_orientation(reader.part(body + prefix, length - prefix));
    }
    at = body + length + (length & 1U);
  }
  if (!frame) fail(ErrorCode::kData, "{}: a WebP without a still frame", reader.name());
  return header;
}

ImageHeader read_bmp(const ByteReader& reader) {
  ImageHeader header{ImageFormat::kBmp};
  constexpr std::uint32_t kCoreInfo = 12;  // Length of OS/2's older header.
  const bool core = reader.little(14, 4) == kCoreInfo;
  if (core) {
    header.width = reader.little(18, 2);
    header.height = reader.little(20, 2);
  } else {
    header.width = std::int64_t{static_cast<std::int32_t>(reader.little(18, 4))};
    header.height = std::abs(std::int64_t{static_cast<std::int32_t>(reader.little(22, 4))});
  }
  const std::int64_t bits = reader.little(core ? 24 : 28, 2);
  const std::uint32_t compression = core ? 0 : reader.little(30, 4);
  if (header.width > 0 && (compression == 0 || compression == 3)) {
    const std::int64_t row = (header.width * bits + 31) / 32 * 4;
    std::int64_t bytes = 0;
    if (__builtin_mul_overflow(row, header.height, &bytes)) bytes = std::numeric_limits<std::int64_t>::max();
    reader.require(reader.little(10, 4), static_cast<std::size_t>(bytes));
  }
  return header;
}

ImageHeader read_any(const ByteReader& reader) {
  if (reader.size() == 0) fail(ErrorCode::kData, "{}: the file is empty (0 bytes), no image", reader.name());
  if (reader.text_at(0, "\x89PNG\r\n\x1a\n")) return read_png(reader);
  if (reader.text_at(0, "\xff\xd8\xff")) return read_jpeg(reader);
  if (reader.text_at(0, "RIFF") && reader.text_at(8, "WEBP")) return read_webp(reader);
  if (reader.text_at(0, "BM")) return read_bmp(reader);
  fail(ErrorCode::kData, "{}: not a PNG, JPEG, WebP or BMP image ({} bytes)", reader.name(), reader.size());
}

}  // namespace

ImageHeader read_image_header(std::span<const std::byte> encoded, std::string_view name) {
  const ImageHeader header = read_any(ByteReader(encoded, name));
  if (header.width <= 0 || header.height <= 0)
    fail(ErrorCode::kData, "{}: the image's header says {} x {} pixels", name, header.width, header.height);
  return header;
}

}  // namespace ferro
