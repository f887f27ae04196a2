#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace ferro::testing {

using Bytes = std::vector<std::uint8_t>;

inline void append_big(Bytes& bytes, std::uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) bytes.push_back(static_cast<std::uint8_t>(value >> shift));
}

inline std::uint32_t crc32_of(const std::uint8_t* data, std::size_t count) {
  std::uint32_t crc = 0xffffffffU;
  for (std::size_t i = 0; i < count; ++i) {
    crc ^= data[i];
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1U) != 0 ? 0xedb88320U : 0U);
  }
  return ~crc;
}

inline void append_chunk(Bytes& png, const std::string& type, const Bytes& content) {
  append_big(png, static_cast<std::uint32_t>(content.size()));
  const std::size_t begin = png.size();
  png.insert(png.end(), type.begin(), type.end());
  png.insert(png.end(), content.begin(), content.end());
  append_big(png, crc32_of(png.data() + begin, png.size() - begin));
}

/// A zlib stream of one stored block (RFC 1950 and 1951). At most 65535 bytes.
inline Bytes stored_zlib(const Bytes& raw) {
  const std::uint32_t length = static_cast<std::uint32_t>(raw.size());
  Bytes stream{0x78,
               0x01,
               0x01,
               static_cast<std::uint8_t>(length),
               static_cast<std::uint8_t>(length >> 8),
               static_cast<std::uint8_t>(~length),
               static_cast<std::uint8_t>(~length >> 8)};
  stream.insert(stream.end(), raw.begin(), raw.end());
  std::uint32_t a = 1, b = 0;
  for (const std::uint8_t value : raw) {
    a = (a + value) % 65521U;
    b = (b + a) % 65521U;
  }
  append_big(stream, (b << 16) | a);
  return stream;
}

struct PngParts {
  std::uint32_t width = 0, height = 0;
  std::uint8_t depth = 8, colour_type = 0;  ///< 0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGBA.
  Bytes rows{};                             ///< Without filter bytes.
  Bytes palette{}, transparency{};
  int orientation = 0;  ///< > 0: an eXIf chunk.
};

/// A PNG around an IDAT that is already a zlib stream.
inline Bytes png_around(const PngParts& parts, const Bytes& idat) {
  Bytes png{0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
  Bytes header;
  append_big(header, parts.width);
  append_big(header, parts.height);
  header.insert(header.end(), {parts.depth, parts.colour_type, 0, 0, 0});
  append_chunk(png, "IHDR", header);
  if (parts.orientation > 0) {
    append_chunk(png, "eXIf", {'M',  'M',  0, 42, 0, 0, 0, 8, 0, 1,
                               0x01, 0x12, 0, 3,  0, 0, 0, 1, 0, static_cast<std::uint8_t>(parts.orientation),
                               0,    0,    0, 0,  0, 0});
  }
  if (!parts.palette.empty()) append_chunk(png, "PLTE", parts.palette);
  if (!parts.transparency.empty()) append_chunk(png, "tRNS", parts.transparency);
  append_chunk(png, "IDAT", idat);
  append_chunk(png, "IEND", {});
  return png;
}

inline Bytes make_png(const PngParts& parts) {
  const std::size_t stride = parts.rows.size() / parts.height;
  Bytes raw;
  for (std::size_t row = 0; row < parts.height; ++row) {
    raw.push_back(0);
    raw.insert(raw.end(), parts.rows.begin() + static_cast<std::ptrdiff_t>(row * stride),
               parts.rows.begin() + static_cast<std::ptrdiff_t>((row + 1) * stride));
  }
  return png_around(parts, stored_zlib(raw));
}

/// A valid zlib stream of `count` zero bytes in about count / 159 bytes: a literal 0, then matches of 258 at
/// distance 1, with fixed Huffman codes (RFC 1951, 3.2.6): literal 0 is 00110000, length 258 is 11000101,
/// distance 1 is 00000, end is 0000000.
inline Bytes zlib_of_zeros(std::uint64_t count) {
  Bytes stream{0x78, 0x01};
  std::uint32_t pending = 0;
  int used = 0;
  const auto put = [&](std::uint32_t bits, int length) {  // Huffman codes go most significant bit first.
    for (int i = length - 1; i >= 0; --i) {
      pending |= ((bits >> i) & 1U) << used;
      if (++used == 8) {
        stream.push_back(static_cast<std::uint8_t>(pending));
        pending = 0;
        used = 0;
      }
    }
  };
  put(1, 1);  // Last block.
  put(2, 2);  // Type 1, least significant bit first.
  std::uint64_t left = count;
  while (left % 258 != 0) {
    put(0x30, 8);
    --left;
  }
  if (left == count) {
    for (int i = 0; i < 258; ++i) put(0x30, 8);
    left -= 258;
  }
  for (; left > 0; left -= 258) {
    put(0xc5, 8);
    put(0, 5);
  }
  put(0, 7);
  while (used != 0) put(0, 1);
  append_big(stream, (static_cast<std::uint32_t>(count % 65521U) << 16) | 1U);
  return stream;
}

/// 24-bit BMP, rows from bottom to top. `bgr` row-major from the top.
inline Bytes make_bmp(std::uint32_t width, std::uint32_t height, const Bytes& bgr) {
  const std::uint32_t stride = (width * 3 + 3) / 4 * 4;
  Bytes bmp{'B', 'M'};
  const auto little = [&](std::uint32_t value, int count) {
    for (int i = 0; i < count; ++i) bmp.push_back(static_cast<std::uint8_t>(value >> (8 * i)));
  };
  little(54 + stride * height, 4);
  little(0, 4);
  little(54, 4);
  little(40, 4);
  little(width, 4);
  little(height, 4);
  little(1, 2);
  little(24, 2);
  for (int i = 0; i < 6; ++i) little(0, 4);
  for (std::uint32_t row = height; row > 0; --row) {
    const std::size_t from = std::size_t{row - 1} * width * 3;
    bmp.insert(bmp.end(), bgr.begin() + static_cast<std::ptrdiff_t>(from),
               bgr.begin() + static_cast<std::ptrdiff_t>(from + width * 3));
    for (std::uint32_t pad = width * 3; pad < stride; ++pad) bmp.push_back(0);
  }
  return bmp;
}

}  // namespace ferro::testing
