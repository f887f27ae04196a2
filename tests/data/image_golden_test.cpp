#include <cmath>
#include <optional>

#include <catch2/catch.hpp>

#include "core/checksum.h"
#include "core/error.h"
#include "data/image/image_decode.h"
#include "data/image/image_header.h"
#include "data/image/image_processor.h"
#include "tests/data/safetensors_reader.h"
#include "tests/golden.h"

namespace ferro {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::read_golden_tensor;

constexpr std::int64_t kMaxPixels = std::int64_t{1} << 26;

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

Picture decode(const fs::path& path) {
  const std::string file = read_file(path);
  return decode_image(bytes_of(file), kMaxPixels, path.string());
}

std::string sha256_of_pixels(const Picture& picture) {
  return sha256_of({reinterpret_cast<const char*>(picture.bytes.data()), picture.bytes.size()});
}

/// The picture as stored: the reference's plain Image.open does not turn it.
Picture decode_as_stored(const fs::path& path) {
  const std::string file = read_file(path);
  const int orientation = read_image_header(bytes_of(file), path.string()).orientation;
  const int inverse = orientation == 6 ? 8 : orientation == 8 ? 6 : orientation;
  return orient_picture(decode_image(bytes_of(file), kMaxPixels, path.string()), inverse);
}

std::size_t differing(const Picture& a, const Picture& b) {
  REQUIRE(a.height == b.height);
  REQUIRE(a.width == b.width);
  REQUIRE(a.channels == b.channels);
  std::size_t count = 0;
  for (std::size_t i = 0; i < a.bytes.size(); ++i) count += a.bytes[i] != b.bytes[i] ? 1 : 0;
  return count;
}

/// Pillow's convert("L"): ITU-R 601 weights in 16-bit fixed point.
Picture to_grey(const Picture& rgb) {
  Picture grey{rgb.height, rgb.width, 1, {}};
  for (std::size_t i = 0; i < rgb.bytes.size(); i += 3) {
    const std::uint32_t sum =
        rgb.bytes[i] * 19595U + rgb.bytes[i + 1] * 38470U + rgb.bytes[i + 2] * 7471U + 0x8000U;
    grey.bytes.push_back(static_cast<std::uint8_t>(sum >> 16));
  }
  return grey;
}

ImageProcessorConfig config_of(const json& setting) {
  ImageProcessorConfig config;
  config.min_pixels = setting.value("min_pixels", std::int64_t{56 * 56});
  config.max_pixels = setting.value("max_pixels", std::int64_t{28 * 28 * 1280});  // The class's own default.
  return config;
}

struct Set {
  fs::path root;
  json image;    ///< The manifest's section.
  json records;  ///< images.json's list.
};

std::optional<Set> load_set() {
  const auto root = testing::golden_dir();
  if (!root || !testing::golden_has(*root, "/image")) return std::nullopt;
  const json manifest = testing::read_json(*root / "manifest.json");
  const json& image = manifest.at("image");
  return Set{*root, image, testing::read_json(*root / image.at("file").get<std::string>()).at("images")};
}

std::string name_of(const json& entry) {
  std::string name = fs::path(entry.at("file").get<std::string>()).filename().string();
  if (entry.at("oriented_by_exif").get<bool>()) name += " turned";
  return name;
}

/// Two checksums of `bytes` bytes.
void check_same(const std::string& what, const json& stored, const std::string& got, std::size_t bytes) {
  testing::report_equality("image " + what, bytes, stored == got ? 0 : bytes);
  CHECK(stored == got);
}

/// What the reference saw: the file as stored, or turned upright. Nothing where it dropped alpha, which ferro
/// composes on white.
std::optional<Picture> reference_input(const Set& set, const json& entry) {
  if (entry.at("pil_mode") == "RGBA") return std::nullopt;
  const fs::path path = set.root / entry.at("file").get<std::string>();
  return entry.at("oriented_by_exif").get<bool>() ? decode(path) : decode_as_stored(path);
}

void check_rows(const Set& set, const json& entry, const ImageInput& input) {
  const std::size_t values = static_cast<std::size_t>(input.patch_values), half_patch = values / 3 / 2;
  if (!entry.at("rows_pil").is_null()) {
    const auto expected = read_golden_tensor(set.root / entry.at("rows_pil").at("file").get<std::string>(),
                                             entry.at("rows_pil").at("tensor"));
    std::size_t at = 0, wrong = 0;
    for (const std::size_t row : entry.at("rows").get<std::vector<std::size_t>>()) {
      for (std::size_t channel = 0; channel < 3; ++channel) {
        for (std::size_t i = 0; i < half_patch; ++i, ++at) {
          const float* patch = &input.pixel_values[row * values + channel * 2 * half_patch];
          wrong +=
              patch[i] != expected.values.at(at) || patch[half_patch + i] != expected.values.at(at) ? 1 : 0;
        }
      }
    }
    CHECK(at == expected.values.size());
    CHECK(wrong == 0);
    testing::report_equality("image pixel rows " + name_of(entry), at, wrong);
  }
  if (!entry.at("full_pixel_values").is_null()) {
    const auto expected =
        read_golden_tensor(set.root / entry.at("full_pixel_values").at("file").get<std::string>(),
                           entry.at("full_pixel_values").at("tensor"));
    const bool same = input.pixel_values == expected.values;
    CHECK(same);
    testing::report_equality("image pixel values " + name_of(entry), expected.values.size(),
                             same ? 0 : expected.values.size());
  }
}

}  // namespace

TEST_CASE("decoded pictures equal Pillow's", "[golden]") {
  const auto set = load_set();
  FERRO_SKIP_UNLESS(set, "the golden folder with images");
  std::size_t compared = 0;
  for (const json& entry : set->image.at("images")) {
    INFO(entry.at("file") << " record " << entry.at("record"));
    const json& record = set->records.at(entry.at("record").get<std::size_t>());
    if (const auto input = reference_input(*set, entry)) {
      CHECK(json::array({input->width, input->height}) == record.at("size_wh"));
      check_same("decoded " + name_of(entry), record.at("rgb_sha256"), sha256_of_pixels(*input),
                 input->bytes.size());
      ++compared;
    }
    if (!entry.at("decoded_oriented_png").is_null()) {
      const fs::path path = set->root / entry.at("file").get<std::string>();
      const Picture upright = decode(set->root / entry.at("decoded_oriented_png").get<std::string>());
      const std::size_t different = differing(decode(path), upright);
      CHECK(different == 0);
      testing::report_equality("image decoded and turned " + name_of(entry), upright.bytes.size(), different);
    }
  }
  CHECK(compared > 0);
}

TEST_CASE("grids, resized pictures and pixel rows equal the reference processor's", "[golden]") {
  const auto set = load_set();
  FERRO_SKIP_UNLESS(set, "the golden folder with images");
  for (const json& entry : set->image.at("images")) {
    INFO(entry.at("file") << " record " << entry.at("record"));
    const json& record = set->records.at(entry.at("record").get<std::size_t>());
    const auto input = reference_input(*set, entry);
    if (!input) continue;
    if (entry.at("refused").get<bool>()) {
      CHECK_THROWS_AS(process_picture(*input, ImageProcessorConfig{}), Error);
      continue;
    }
    for (const auto& [name, setting] : set->image.at("settings").items()) {
      INFO("setting " << name);
      const ImageProcessorConfig config = config_of(setting);
      const auto [height, width] =
          smart_resize(input->height, input->width, 28, config.min_pixels, config.max_pixels);
      CHECK(json::array({1, height / 14, width / 14}) == entry.at("grids").at(name));
      const Picture resized = resize_bicubic(*input, height, width);
      check_same("resized by " + name + " " + name_of(entry),
                 record.at("settings").at(name).at("pil").at("resized_rgb_sha256"), sha256_of_pixels(resized),
                 resized.bytes.size());
      if (name == set->image.at("resized_setting") && !entry.at("resized_png").is_null())
        CHECK(differing(resized, decode(set->root / entry.at("resized_png").get<std::string>())) == 0);
      if (name == set->image.at("rows_setting")) check_rows(*set, entry, process_picture(*input, config));
    }
  }
}

TEST_CASE("alpha on white equals the reference's", "[golden]") {
  const auto set = load_set();
  FERRO_SKIP_UNLESS(set, "the golden folder with images");
  const ImageProcessorConfig config =
      config_of(set->image.at("settings").at(set->image.at("resized_setting").get<std::string>()));
  for (const json& entry : set->image.at("images")) {
    if (entry.at("on_white_png").is_null()) continue;
    Picture picture = decode(set->root / entry.at("file").get<std::string>());
    const Picture expected = decode(set->root / entry.at("on_white_png").get<std::string>());
    if (picture.height != expected.height || picture.width != expected.width) {
      const auto [height, width] =
          smart_resize(picture.height, picture.width, 28, config.min_pixels, config.max_pixels);
      picture = resize_bicubic(picture, height, width);
    }
    const std::size_t different = differing(picture, expected);
    CHECK(different == 0);
    testing::report_equality("image on white " + name_of(entry), picture.bytes.size(), different);
  }
}

TEST_CASE("bicubic resizing equals Pillow's", "[golden]") {
  const auto set = load_set();
  FERRO_SKIP_UNLESS(set, "the golden folder with images");
  for (const json& entry : set->image.at("pillow_resize").at("cases")) {
    INFO(entry.at("output"));
    Picture input = decode_as_stored(set->root / entry.at("input").get<std::string>());
    Picture expected = decode(set->root / entry.at("output").get<std::string>());
    if (entry.at("convert") == "L") {
      input = to_grey(input);
      expected = to_grey(expected);
    }
    const auto size = entry.at("size_wh").get<std::vector<std::int32_t>>();
    const Picture resized = resize_bicubic(input, size.at(1), size.at(0));
    const std::size_t different = differing(resized, expected);
    CHECK(different == 0);
    testing::report_equality(
        "image bicubic " + fs::path(entry.at("output").get<std::string>()).stem().string(),
        resized.bytes.size(), different);
  }
}

TEST_CASE("smart_resize equals the reference's, refusals included", "[golden]") {
  const auto set = load_set();
  FERRO_SKIP_UNLESS(set, "the golden folder with images");
  const json rows =
      testing::read_json(set->root / set->image.at("smart_resize").at("file").get<std::string>());
  CHECK(rows.size() == set->image.at("smart_resize").at("rows").get<std::size_t>());
  std::size_t refused = 0, different = 0;
  for (const json& row : rows) {
    INFO(row.dump());
    const auto call = [&] {
      return smart_resize(row.at("height"), row.at("width"), row.at("factor"), row.at("min_pixels"),
                          row.at("max_pixels"));
    };
    bool same = false;
    try {
      const auto [height, width] = call();
      same = row.contains("result") && json::array({height, width}) == row.at("result");
    } catch (const Error& error) {
      same = !row.contains("result") && error.code() == ErrorCode::kData;
      ++refused;
    }
    CHECK(same);
    different += same ? 0 : 1;
  }
  testing::report_equality("smart_resize sizes, " + std::to_string(refused) + " refused among them",
                           rows.size(), different);
}

TEST_CASE("the 256 levels normalise to the reference's table", "[golden]") {
  const auto set = load_set();
  FERRO_SKIP_UNLESS(set, "the golden folder with images");
  const json& entry = set->image.at("lut_pil");
  const auto table = read_golden_tensor(set->root / entry.at("file").get<std::string>(), entry.at("tensor"));
  REQUIRE(table.shape == std::vector<std::int64_t>{3, 256});
  // 28 x 28 pixels, unresized, hold all levels: four patches of 14 x 14.
  Picture picture{28, 28, 3, {}};
  for (std::size_t i = 0; i < 28 * 28; ++i)
    picture.bytes.insert(picture.bytes.end(), 3, static_cast<std::uint8_t>(i % 256));
  ImageProcessorConfig config;
  config.min_pixels = 784;
  const ImageInput input = process_picture(picture, config);
  double largest = 0.0;
  for (std::size_t y = 0; y < 28; ++y) {
    for (std::size_t x = 0; x < 28; ++x) {
      const std::size_t patch = (y / 14) * 2 + x / 14, inside = (y % 14) * 14 + x % 14,
                        level = (y * 28 + x) % 256;
      for (std::size_t channel = 0; channel < 3; ++channel) {
        const float value = input.pixel_values[patch * 1176 + channel * 392 + inside];
        largest =
            std::max(largest, static_cast<double>(std::abs(value - table.values[channel * 256 + level])));
      }
    }
  }
  testing::report_difference("lut_pil", largest, 0.0);
  CHECK(largest == 0.0);
}

}  // namespace ferro
