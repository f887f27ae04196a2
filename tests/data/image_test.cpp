#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string>

#include <catch2/catch.hpp>

#include "core/error.h"
#include "data/image/image_decode.h"
#include "data/image/image_header.h"
#include "data/image/image_processor.h"
#include "tests/data/image_encoders.h"
#include "tests/data/image_samples.h"

namespace ferro {
namespace {

using testing::Bytes;
using testing::make_png;

constexpr std::int64_t kMaxPixels = std::int64_t{1} << 26;

std::span<const std::byte> view(std::span<const std::uint8_t> bytes) {
  return std::as_bytes(bytes);
}

Picture decode(std::span<const std::uint8_t> bytes) {
  return decode_image(view(bytes), kMaxPixels, "face.img");
}

std::array<int, 3> pixel(const Picture& picture, std::int32_t y, std::int32_t x) {
  const std::size_t at = static_cast<std::size_t>((y * picture.width + x) * 3);
  return {picture.bytes[at], picture.bytes[at + 1], picture.bytes[at + 2]};
}

/// The message of the Error{kData} that decoding ends with.
std::string refusal(std::span<const std::uint8_t> bytes) {
  try {
    decode_image(view(bytes), kMaxPixels, "folder/face.img");
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::kData);
    return error.what();
  }
  FAIL("decoded what should have been refused");
  return {};
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

/// Largest difference to the picture that image_samples.h describes.
int distance_to_sample(const Picture& picture) {
  int largest = 0;
  for (std::int32_t y = 0; y < 6; ++y) {
    for (std::int32_t x = 0; x < 9; ++x) {
      const std::array<int, 3> expected{28 * x, 50 * y, 255 - 20 * x - 10 * y}, got = pixel(picture, y, x);
      for (std::size_t i = 0; i < 3; ++i) largest = std::max(largest, std::abs(expected[i] - got[i]));
    }
  }
  return largest;
}

Bytes with_exif(std::span<const std::uint8_t> jpeg, std::uint8_t orientation) {
  Bytes bytes(jpeg.begin(), jpeg.begin() + 2);
  const Bytes segment{0xff, 0xe1, 0,    34,   'E', 'x', 'i', 'f', 0, 0, 'I',         'I', 42, 0, 8, 0, 0, 0,
                      1,    0,    0x12, 0x01, 3,   0,   1,   0,   0, 0, orientation, 0,   0,  0, 0, 0, 0, 0};
  bytes.insert(bytes.end(), segment.begin(), segment.end());
  bytes.insert(bytes.end(), jpeg.begin() + 2, jpeg.end());
  return bytes;
}

long peak_kilobytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss;
}

}  // namespace

TEST_CASE("a lossless WebP, a BMP and a PNG decode to exactly their pixels") {
  const Picture webp = decode(testing::kWebpLossless);
  REQUIRE(webp.width == 9);
  REQUIRE(webp.height == 6);
  CHECK(distance_to_sample(webp) == 0);

  Bytes bgr, rgb;
  for (std::size_t i = 0; i < webp.bytes.size(); i += 3) {
    bgr.insert(bgr.end(), {webp.bytes[i + 2], webp.bytes[i + 1], webp.bytes[i]});
    rgb.insert(rgb.end(), {webp.bytes[i], webp.bytes[i + 1], webp.bytes[i + 2]});
  }
  CHECK(decode(testing::make_bmp(9, 6, bgr)).bytes == webp.bytes);
  CHECK(decode(make_png({.width = 9, .height = 6, .depth = 8, .colour_type = 2, .rows = rgb})).bytes ==
        webp.bytes);
}

TEST_CASE("JPEGs in RGB and in CMYK decode to their picture within the loss") {
  CHECK(distance_to_sample(decode(testing::kJpegRgb)) <= 12);
  const Picture cmyk = decode(testing::kJpegCmyk);
  CHECK(distance_to_sample(cmyk) <= 16);
  // Pillow 13's convert("RGB") of the same bytes; OpenCV's own conversion differs by one level in most.
  CHECK(pixel(cmyk, 0, 0) == std::array{0, 0, 255});
  CHECK(pixel(cmyk, 2, 3) == std::array{84, 99, 177});
  CHECK(pixel(cmyk, 5, 8) == std::array{224, 250, 45});
}

TEST_CASE("a JPEG with a second frame header is refused, whatever size each of them says") {
  // The decoder would go by the first, which here says 65535 x 65535.
  Bytes bomb(testing::kJpegRgb, testing::kJpegRgb + sizeof(testing::kJpegRgb));
  std::size_t frame = 0;
  while (bomb[frame] != 0xff || bomb[frame + 1] != 0xc0) ++frame;
  const Bytes second(bomb.begin() + static_cast<std::ptrdiff_t>(frame),
                     bomb.begin() + static_cast<std::ptrdiff_t>(frame) + 19);
  std::fill(bomb.begin() + static_cast<std::ptrdiff_t>(frame) + 5,
            bomb.begin() + static_cast<std::ptrdiff_t>(frame) + 9, std::uint8_t{0xff});
  bomb.insert(bomb.end() - 2, second.begin(), second.end());
  const long before = peak_kilobytes();
  CHECK(contains(refusal(bomb), "second JPEG frame header"));
  CHECK(peak_kilobytes() - before < 8192);
}

TEST_CASE("a JPEG of very many scans is refused") {
  Bytes many(testing::kJpegRgb, testing::kJpegRgb + sizeof(testing::kJpegRgb) - 2);
  const Bytes empty_scan{0xff, 0xda, 0x00, 0x08, 0x01, 0x01, 0x00, 0x00, 0x3f, 0x00};
  for (int i = 0; i < 100; ++i) many.insert(many.end(), empty_scan.begin(), empty_scan.end());
  many.insert(many.end(), {0xff, 0xd9});
  CHECK(contains(refusal(many), "more than 100 scans"));
}

TEST_CASE("a file that begins as a WebP reaches no other decoder") {
  Bytes webp(testing::kWebpLossless, testing::kWebpLossless + sizeof(testing::kWebpLossless));
  const std::size_t frame_end = webp.size();
  webp.resize(160, 0);
  webp[4] = 160 - 8;  // Of the whole, in the RIFF header. What follows the frame is one chunk of no meaning.
  std::copy_n("JUNK", 4, webp.begin() + static_cast<std::ptrdiff_t>(frame_end));
  webp[frame_end + 4] = static_cast<std::uint8_t>(160 - frame_end - 8);
  CHECK(decode(webp).width == 9);
  Bytes version = webp, signature = webp, dicom = webp, elevations = webp;
  version[24] |= 0xe0;  // A version of the lossless format that does not exist.
  signature[20] = 0;
  for (const Bytes& bytes : {version, signature}) CHECK(contains(refusal(bytes), "frame header is wrong"));
  std::copy_n("DICM", 4, dicom.begin() + 128);
  CHECK(contains(refusal(dicom), "DICM"));
  std::copy_n("DTED", 4, elevations.begin() + 140);
  CHECK(contains(refusal(elevations), "DTED"));
}

TEST_CASE("an animated WebP is refused by name") {
  Bytes webp{'R', 'I', 'F', 'F', 22, 0,    0, 0, 'W', 'E', 'B', 'P', 'V', 'P', '8',
             'X', 10,  0,   0,   0,  0x02, 0, 0, 0,   8,   0,   0,   5,   0,   0};
  CHECK(contains(refusal(webp), "folder/face.img: an animated WebP"));
}

TEST_CASE("a stuffed zero in JPEG data is no marker") {
  const Picture noise = decode(testing::kJpegStuffed);
  REQUIRE(noise.width == 8);
  CHECK(pixel(noise, 0, 0) == std::array{135, 135, 135});
  CHECK(pixel(noise, 3, 4) == std::array{190, 190, 190});
  CHECK(pixel(noise, 7, 7) == std::array{63, 63, 63});
}

TEST_CASE("grey, bilevel, palette and 16-bit PNGs become RGB") {
  const Picture grey =
      decode(make_png({.width = 2, .height = 1, .depth = 8, .colour_type = 0, .rows = {7, 250}}));
  CHECK(pixel(grey, 0, 0) == std::array{7, 7, 7});
  CHECK(pixel(grey, 0, 1) == std::array{250, 250, 250});

  const Picture bilevel =
      decode(make_png({.width = 3, .height = 1, .depth = 1, .colour_type = 0, .rows = {0b10100000}}));
  CHECK(bilevel.bytes == Bytes{255, 255, 255, 0, 0, 0, 255, 255, 255});

  const Picture palette = decode(make_png({.width = 2,
                                           .height = 1,
                                           .depth = 8,
                                           .colour_type = 3,
                                           .rows = {1, 0},
                                           .palette = {10, 20, 30, 40, 50, 60}}));
  CHECK(palette.bytes == Bytes{40, 50, 60, 10, 20, 30});

  const Picture deep = decode(make_png({.width = 1,
                                        .height = 2,
                                        .depth = 16,
                                        .colour_type = 2,
                                        .rows = {0x12, 0xff, 0x80, 0x00, 0xff, 0x34, 0, 1, 0, 2, 0, 3}}));
  CHECK(deep.bytes == Bytes{0x12, 0x80, 0xff, 0, 0, 0});
  // Pillow cuts 16-bit grey off at 255 instead of taking the high byte: levels 0x00fe, 0x0100, 0x8000.
  const Picture deep_grey = decode(make_png({.width = 3,
                                             .height = 1,
                                             .depth = 16,
                                             .colour_type = 0,
                                             .rows = {0x00, 0xfe, 0x01, 0x00, 0x80, 0x00}}));
  CHECK(pixel(deep_grey, 0, 0) == std::array{254, 254, 254});
  CHECK(pixel(deep_grey, 0, 1) == std::array{255, 255, 255});
  CHECK(pixel(deep_grey, 0, 2) == std::array{255, 255, 255});
}

TEST_CASE(
    "RGBA is composed on white, 8-bit grey loses its alpha, a palette's transparent entry keeps its colour") {
  const Picture rgba = decode(make_png({.width = 3,
                                        .height = 1,
                                        .depth = 8,
                                        .colour_type = 6,
                                        .rows = {10, 20, 30, 255, 10, 20, 30, 0, 100, 0, 200, 51}}));
  CHECK(pixel(rgba, 0, 0) == std::array{10, 20, 30});
  CHECK(pixel(rgba, 0, 1) == std::array{255, 255, 255});
  // 51 / 255 is a fifth: 100 / 5 + 255 * 4 / 5 = 224, 204, 40 + 204 = 244.
  CHECK(pixel(rgba, 0, 2) == std::array{224, 204, 244});

  // Pillow's modes: LA, converted without its alpha, and RGBA for 16 bits.
  const Picture grey_alpha =
      decode(make_png({.width = 2, .height = 1, .depth = 8, .colour_type = 4, .rows = {100, 255, 100, 51}}));
  CHECK(pixel(grey_alpha, 0, 0) == std::array{100, 100, 100});
  CHECK(pixel(grey_alpha, 0, 1) == std::array{100, 100, 100});
  const Picture deep_alpha =
      decode(make_png({.width = 1, .height = 1, .depth = 16, .colour_type = 4, .rows = {100, 0, 51, 0}}));
  CHECK(pixel(deep_alpha, 0, 0) == std::array{224, 224, 224});

  const Picture palette = decode(make_png({.width = 2,
                                           .height = 1,
                                           .depth = 8,
                                           .colour_type = 3,
                                           .rows = {1, 0},
                                           .palette = {10, 20, 30, 40, 50, 60},
                                           .transparency = {255, 0}}));
  CHECK(palette.bytes == Bytes{40, 50, 60, 10, 20, 30});
}

TEST_CASE("each EXIF orientation turns the picture upright, in JPEG and in PNG") {
  // Stored 3 wide, 2 high: 1 2 3 / 4 5 6. Upright pictures by the tag's definition (row 0, column 0 of the
  // stored picture is ...).
  struct Case {
    int orientation;
    std::int32_t height, width;
    Bytes values;
  };
  const Case cases[] = {{1, 2, 3, {1, 2, 3, 4, 5, 6}}, {2, 2, 3, {3, 2, 1, 6, 5, 4}},
                        {3, 2, 3, {6, 5, 4, 3, 2, 1}}, {4, 2, 3, {4, 5, 6, 1, 2, 3}},
                        {5, 3, 2, {1, 4, 2, 5, 3, 6}}, {6, 3, 2, {4, 1, 5, 2, 6, 3}},
                        {7, 3, 2, {6, 3, 5, 2, 4, 1}}, {8, 3, 2, {3, 6, 2, 5, 1, 4}}};
  const Picture plain = decode(testing::kJpegRgb);
  for (const Case& c : cases) {
    INFO("orientation " << c.orientation);
    const Picture png = decode(make_png({.width = 3,
                                         .height = 2,
                                         .depth = 8,
                                         .colour_type = 0,
                                         .rows = {1, 2, 3, 4, 5, 6},
                                         .orientation = c.orientation}));
    Bytes expected;
    for (const std::uint8_t value : c.values) expected.insert(expected.end(), 3, value);
    CHECK(png.height == c.height);
    CHECK(png.width == c.width);
    CHECK(png.bytes == expected);
    const Picture jpeg = decode(with_exif(testing::kJpegRgb, static_cast<std::uint8_t>(c.orientation)));
    CHECK(jpeg.bytes == orient_picture(plain, c.orientation).bytes);
  }
}

TEST_CASE("a 20000 x 20000 picture in a small PNG is refused before it is decoded") {
  // One bit a pixel: 20000 rows of 1 + 2500 zero bytes. A complete, valid file.
  const testing::PngParts parts{.width = 20000, .height = 20000, .depth = 1, .colour_type = 0};
  const Bytes bomb = testing::png_around(parts, testing::zlib_of_zeros(20000ULL * 2501));
  CHECK(bomb.size() < 400'000);
  const long before = peak_kilobytes();
  const std::string message = refusal(bomb);
  CHECK(contains(message, "20000 x 20000"));
  CHECK(contains(message, "folder/face.img"));
  CHECK(peak_kilobytes() - before < 8192);

  // The same construction, small, is a picture that decodes: the refusal above is not for another reason.
  const testing::PngParts small{.width = 2000, .height = 100, .depth = 1, .colour_type = 0};
  const Picture picture = decode(testing::png_around(small, testing::zlib_of_zeros(100 * 251)));
  CHECK(picture.width == 2000);
  CHECK(*std::max_element(picture.bytes.begin(), picture.bytes.end()) == 0);
}

TEST_CASE("truncated, empty and foreign files are refused by name, whatever their extension says") {
  CHECK(contains(refusal({}), "folder/face.img: the file is empty"));
  const std::string text = "this is a text file that someone named face.png";
  CHECK(contains(refusal({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}),
                 "folder/face.img: not a PNG"));

  const Bytes rgb(9 * 6 * 3, 77);
  const Bytes whole_png = make_png({.width = 9, .height = 6, .depth = 8, .colour_type = 2, .rows = rgb});
  const Bytes bmp = testing::make_bmp(9, 6, rgb);
  const std::span<const std::uint8_t> jpeg = testing::kJpegRgb, webp = testing::kWebpLossless;
  for (const std::span<const std::uint8_t> whole :
       {jpeg, webp, std::span<const std::uint8_t>(whole_png), std::span<const std::uint8_t>(bmp)}) {
    for (std::size_t length = 1; length < whole.size(); ++length) {
      INFO("first byte " << static_cast<int>(whole[0]) << ", " << length << " of " << whole.size()
                         << " bytes");
      CHECK(contains(refusal(whole.subspan(0, length)), "folder/face.img"));
    }
    CHECK(decode(whole).width == 9);
  }
}

TEST_CASE("a header with no pixels is refused") {
  Bytes png = make_png({.width = 9, .height = 6, .depth = 8, .colour_type = 0, .rows = Bytes(54, 1)});
  std::fill(png.begin() + 16, png.begin() + 20, std::uint8_t{0});
  CHECK(contains(refusal(png), "0 x 6"));
}

TEST_CASE("damaged bytes never crash the decoder") {
  const Bytes png = make_png(
      {.width = 9, .height = 6, .depth = 8, .colour_type = 2, .rows = Bytes(162, 9), .orientation = 6});
  const Bytes jpeg = with_exif(testing::kJpegRgb, 6);
  const std::span<const std::uint8_t> webp = testing::kWebpLossless;
  for (const std::span<const std::uint8_t> whole :
       {std::span<const std::uint8_t>(png), std::span<const std::uint8_t>(jpeg), webp}) {
    for (std::size_t at = 0; at < whole.size(); ++at) {
      Bytes damaged(whole.begin(), whole.end());
      damaged[at] ^= 0xffU;
      ErrorCode code = ErrorCode::kData;
      try {
        decode_image(view(damaged), 1 << 16, "damaged");
      } catch (const Error& error) {
        code = error.code();
      }
      CHECK(code == ErrorCode::kData);
    }
  }
}

}  // namespace ferro
