#include <algorithm>
#include <cmath>
#include <iostream>
#include <optional>

#include <catch2/catch.hpp>

#include "core/checksum.h"
#include "core/error.h"
#include "data/image/image_decode.h"
#include "data/image/image_header.h"
#include "data/image/image_processor.h"
#include "tests/core/scratch_folder.h"
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

/// A setting has the keys of a preprocessor_config.json; those it leaves out are the class's own defaults.
ImageProcessorConfig config_of(const json& setting) {
  json keys{{"max_pixels", 28 * 28 * 1280}};
  if (setting.contains("size")) keys.clear();
  keys.update(setting);
  const testing::ScratchFolder scratch;
  write_file_atomically(scratch / "preprocessor_config.json", keys.dump());
  return ImageProcessorConfig::load(scratch / "preprocessor_config.json");
}

std::pair<std::int32_t, std::int32_t> resized_size(const Picture& picture,
                                                   const ImageProcessorConfig& config) {
  return smart_resize(picture.height, picture.width, config.patch_size * config.merge_size, config.min_pixels,
                      config.max_pixels);
}

/// Where a pixel's value of the first frame lies in the patches: rows (gh/m, gw/m, m, m), of (3, frames, p,
/// p).
std::size_t place_of(std::size_t y, std::size_t x, std::size_t channel, std::int32_t width,
                     const ImageProcessorConfig& config) {
  const auto patch = static_cast<std::size_t>(config.patch_size),
             merge = static_cast<std::size_t>(config.merge_size),
             frames = static_cast<std::size_t>(config.temporal_patch_size),
             groups = static_cast<std::size_t>(width) / patch / merge;
  const std::size_t row = y / patch, column = x / patch;
  const std::size_t index =
      ((row / merge * groups + column / merge) * merge + row % merge) * merge + column % merge;
  return ((index * 3 + channel) * frames * patch + y % patch) * patch + x % patch;
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

/// Where the reference dropped alpha, ferro composes on white: other pixels, and the same sizes.
bool drops_alpha(const Set& set, const json& entry) {
  const std::string mode = entry.at("pil_mode"), file = entry.at("file");
  const bool has_alpha = mode.ends_with('A') || mode.ends_with('a');
  return has_alpha && read_image_header(bytes_of(read_file(set.root / file)), file).alpha;
}

/// What the reference saw: the file as stored, or turned upright.
Picture reference_input(const Set& set, const json& entry) {
  const fs::path path = set.root / entry.at("file").get<std::string>();
  return entry.at("oriented_by_exif").get<bool>() ? decode(path) : decode_as_stored(path);
}

/// The stored rows are one temporal copy, which all copies equal.
std::size_t differing_row_values(const json& rows, const ImageInput& input,
                                 const ImageProcessorConfig& config, const testing::GoldenTensor& expected) {
  const auto values = static_cast<std::size_t>(input.patch_values),
             area = static_cast<std::size_t>(config.patch_size) * static_cast<std::size_t>(config.patch_size),
             frames = static_cast<std::size_t>(config.temporal_patch_size);
  std::size_t at = 0, wrong = 0;
  for (const std::size_t row : rows.get<std::vector<std::size_t>>())
    for (std::size_t channel = 0; channel < 3; ++channel)
      for (std::size_t i = 0; i < area; ++i, ++at)
        for (std::size_t frame = 0; frame < frames; ++frame)
          wrong += input.pixel_values.at(row * values + (channel * frames + frame) * area + i) !=
                           expected.values.at(at)
                       ? 1
                       : 0;
  CHECK(at == expected.values.size());
  return wrong;
}

void check_rows(const Set& set, const json& entry, const ImageInput& input,
                const ImageProcessorConfig& config) {
  const auto stored = [&](const char* key) {
    return read_golden_tensor(set.root / entry.at(key).at("file").get<std::string>(),
                              entry.at(key).at("tensor"));
  };
  if (!entry.at("rows_pil").is_null()) {
    const testing::GoldenTensor expected = stored("rows_pil");
    const std::size_t wrong = differing_row_values(entry.at("rows"), input, config, expected);
    CHECK(wrong == 0);
    testing::report_equality("image pixel rows " + name_of(entry), expected.values.size(), wrong);
  }
  if (!entry.at("full_pixel_values").is_null()) {
    const testing::GoldenTensor expected = stored("full_pixel_values");
    const bool same = input.pixel_values == expected.values;
    CHECK(same);
    testing::report_equality("image pixel values " + name_of(entry), expected.values.size(),
                             same ? 0 : expected.values.size());
  }
}

/// One picture by one of the set's settings: its grid, its resized bytes, its patches.
void check_setting(const Set& set, const json& entry, const std::string& name, const Picture& input) {
  const ImageProcessorConfig config = config_of(set.image.at("settings").at(name));
  const auto [height, width] = resized_size(input, config);
  const bool same_grid =
      json::array({1, height / config.patch_size, width / config.patch_size}) == entry.at("grids").at(name);
  CHECK(same_grid);
  testing::report_equality("image grid by " + name + " " + name_of(entry), 1, same_grid ? 0 : 1);
  if (drops_alpha(set, entry)) return;
  const json& record = set.records.at(entry.at("record").get<std::size_t>());
  const Picture resized = resize_bicubic(input, height, width);
  check_same("resized by " + name + " " + name_of(entry),
             record.at("settings").at(name).at("pil").at("resized_rgb_sha256"), sha256_of_pixels(resized),
             resized.bytes.size());
  if (name == set.image.at("resized_setting") && !entry.at("resized_png").is_null())
    CHECK(differing(resized, decode(set.root / entry.at("resized_png").get<std::string>())) == 0);
  if (name == set.image.at("rows_setting")) check_rows(set, entry, process_picture(input, config), config);
}

}  // namespace

TEST_CASE("decoded pictures equal Pillow's", "[golden]") {
  const auto set = load_set();
  FERRO_SKIP_UNLESS(set, "the golden folder with images");
  std::size_t compared = 0;
  for (const json& entry : set->image.at("images")) {
    INFO(entry.at("file") << " record " << entry.at("record"));
    const json& record = set->records.at(entry.at("record").get<std::size_t>());
    const Picture input = reference_input(*set, entry);
    CHECK(json::array({input.width, input.height}) == record.at("size_wh"));
    if (drops_alpha(*set, entry)) {
      std::cout << "golden image decoded " << name_of(entry) << ": the reference dropped its alpha; "
                << (entry.at("on_white_png").is_null() ? "its pixels are compared nowhere"
                                                       : "compared on white")
                << "\n";
    } else {
      check_same("decoded " + name_of(entry), record.at("rgb_sha256"), sha256_of_pixels(input),
                 input.bytes.size());
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
    const Picture input = reference_input(*set, entry);
    if (entry.at("refused").get<bool>()) {
      bool refused = false;
      try {
        process_picture(input, ImageProcessorConfig{});
      } catch (const Error& error) {
        refused = error.code() == ErrorCode::kData;
      }
      CHECK(refused);
      testing::report_equality("image refused " + name_of(entry), 1, refused ? 0 : 1);
      continue;
    }
    for (const auto& [name, setting] : set->image.at("settings").items()) {
      INFO("setting " << name);
      check_setting(*set, entry, name, input);
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
      const auto [height, width] = resized_size(picture, config);
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
  // A picture of all levels that is not resized: the smallest square that the processor leaves as it is and
  // that has 256 pixels.
  ImageProcessorConfig config =
      config_of(set->image.at("settings").at(set->image.at("rows_setting").get<std::string>()));
  const std::int32_t unit = config.patch_size * config.merge_size, side = unit * ((16 + unit - 1) / unit);
  config.min_pixels = std::min(config.min_pixels, std::int64_t{side} * side);
  Picture picture{side, side, 3, {}};
  const auto edge = static_cast<std::size_t>(side);
  for (std::size_t i = 0; i < edge * edge; ++i)
    picture.bytes.insert(picture.bytes.end(), 3, static_cast<std::uint8_t>(i % 256));
  const ImageInput input = process_picture(picture, config);
  REQUIRE(input.pixel_values.size() ==
          edge * edge * 3 * static_cast<std::size_t>(config.temporal_patch_size));
  double largest = 0.0;
  for (std::size_t y = 0; y < edge; ++y) {
    for (std::size_t x = 0; x < edge; ++x) {
      for (std::size_t channel = 0; channel < 3; ++channel) {
        const float value = input.pixel_values[place_of(y, x, channel, side, config)],
                    stored = table.values[channel * 256 + (y * edge + x) % 256];
        largest = testing::worse_of(largest, static_cast<double>(std::abs(value - stored)));
      }
    }
  }
  testing::report_difference("lut_pil", largest, 0.0);
  CHECK(largest == 0.0);
}

}  // namespace ferro
