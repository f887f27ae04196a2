#include "data/image_processor_config.h"

#include <cmath>

#include <nlohmann/json.hpp>

#include "core/atomic_file.h"
#include "core/error.h"

namespace ferro {
namespace {

using nlohmann::json;

constexpr std::uint64_t kMaxConfigBytes = 1 << 20;
constexpr int kMaxDepth = 16;

/// The file's object. Error{kIo}, Error{kData}.
json read_object(const std::filesystem::path& file) {
  json root;
  try {
    root = json::parse(read_file(file, kMaxConfigBytes), [&](int depth, json::parse_event_t, json&) {
      if (depth > kMaxDepth)
        fail(ErrorCode::kData, "{}: nested more than {} levels deep", file.string(), kMaxDepth);
      return true;
    });
  } catch (const json::exception& error) {
    fail(ErrorCode::kData, "{}: not valid JSON: {}", file.string(), error.what());
  }
  if (!root.is_object()) fail(ErrorCode::kData, "{}: not a JSON object", file.string());
  return root;
}

class Reader {
 public:
  /// `place`: what the keys' names begin with in errors.
  Reader(const std::filesystem::path& file, const char* place, json object)
      : file_(file.string()), place_(place), root_(std::move(object)) {}

  [[noreturn]] void wrong(const char* key, const char* what) const {
    fail(ErrorCode::kData, "{}: `{}{}` {}", file_, place_, key, what);
  }

  const json* find(const char* key) const { return find_in(root_, key); }
  static const json* find_in(const json& object, const char* key) {
    const auto found = object.find(key);
    return found == object.end() || found->is_null() ? nullptr : &*found;
  }

  template <class Integer>
  void integer(const json* value, const char* key, Integer& out) const {
    if (value == nullptr) return;
    // Some writers store whole numbers as 3136.0.
    if (!value->is_number() || std::abs(value->get<double>()) > 9e15) wrong(key, "is not an integer");
    const auto number = value->get<double>();
    if (std::floor(number) != number || number < 0 ||
        number > static_cast<double>(std::numeric_limits<Integer>::max())) {
      wrong(key, "is not an integer in range");
    }
    out = static_cast<Integer>(number);
  }
  void number(const char* key, double& out) const {
    const json* value = find(key);
    if (value == nullptr) return;
    if (!value->is_number()) wrong(key, "is not a number");
    out = value->get<double>();
  }
  void flag(const char* key, bool& out) const {
    const json* value = find(key);
    if (value == nullptr) return;
    if (!value->is_boolean()) wrong(key, "is not true or false");
    out = value->get<bool>();
  }
  void triple(const char* key, std::array<double, 3>& out) const {
    const json* value = find(key);
    if (value == nullptr) return;
    if (!value->is_array() || value->size() != 3) wrong(key, "is not an array of 3 numbers");
    for (std::size_t i = 0; i < 3; ++i) {
      if (!(*value)[i].is_number()) wrong(key, "is not an array of 3 numbers");
      out[i] = (*value)[i].get<double>();
    }
  }
  void require_true(const char* key) const {
    bool value = true;
    flag(key, value);
    if (!value) wrong(key, "is false; this step cannot be switched off");
  }

 private:
  std::string file_, place_;
  json root_;
};

void read_pixel_limits(const Reader& reader, ImageProcessorConfig& config) {
  if (const json* size = reader.find("size")) {
    if (!size->is_object()) reader.wrong("size", "is not an object");
    for (const char* key : {"shortest_edge", "min_pixels"}) {
      reader.integer(Reader::find_in(*size, key), key, config.min_pixels);
    }
    for (const char* key : {"longest_edge", "max_pixels"}) {
      reader.integer(Reader::find_in(*size, key), key, config.max_pixels);
    }
  }
  reader.integer(reader.find("min_pixels"), "min_pixels", config.min_pixels);
  reader.integer(reader.find("max_pixels"), "max_pixels", config.max_pixels);
  if (config.min_pixels > config.max_pixels) reader.wrong("min_pixels", "exceeds max_pixels");
}

void check(const Reader& reader, const ImageProcessorConfig& config) {
  constexpr std::int32_t kLargest = 1024;
  if (config.patch_size < 1 || config.patch_size > kLargest)
    reader.wrong("patch_size", "is not in [1, 1024]");
  if (config.temporal_patch_size < 1 || config.temporal_patch_size > kLargest) {
    reader.wrong("temporal_patch_size", "is not in [1, 1024]");
  }
  if (config.merge_size < 1 || config.merge_size > kLargest)
    reader.wrong("merge_size", "is not in [1, 1024]");
  if (config.max_pixels < 1) reader.wrong("max_pixels", "is not positive");
  if (!std::isfinite(config.rescale_factor)) reader.wrong("rescale_factor", "is not finite");
  for (const double deviation : config.image_std) {
    if (!(std::abs(deviation) > 0.0)) reader.wrong("image_std", "holds a zero");
  }
}

ImageProcessorConfig read_config(const Reader& reader) {
  ImageProcessorConfig config;
  reader.integer(reader.find("patch_size"), "patch_size", config.patch_size);
  reader.integer(reader.find("temporal_patch_size"), "temporal_patch_size", config.temporal_patch_size);
  reader.integer(reader.find("merge_size"), "merge_size", config.merge_size);
  read_pixel_limits(reader, config);
  reader.triple("image_mean", config.image_mean);
  reader.triple("image_std", config.image_std);
  reader.number("rescale_factor", config.rescale_factor);
  for (const char* key : {"do_resize", "do_rescale", "do_normalize"}) reader.require_true(key);
  reader.integer(reader.find("ferro_forced_size"), "ferro_forced_size", config.forced_size);
  reader.flag("ferro_standardize", config.standardize);
  reader.integer(reader.find("ferro_max_decoded_pixels"), "ferro_max_decoded_pixels",
                 config.max_decoded_pixels);
  check(reader, config);
  return config;
}

}  // namespace

ImageProcessorConfig ImageProcessorConfig::load(const std::filesystem::path& preprocessor_config_json) {
  return read_config(Reader(preprocessor_config_json, "", read_object(preprocessor_config_json)));
}

std::optional<ImageProcessorConfig> ImageProcessorConfig::load_nested(
    const std::filesystem::path& processor_config_json) {
  constexpr const char* kKey = "image_processor";
  json root = read_object(processor_config_json);
  const auto found = root.find(kKey);
  if (found == root.end() || found->is_null()) return std::nullopt;
  if (!found->is_object())
    fail(ErrorCode::kData, "{}: `{}` is not an object", processor_config_json.string(), kKey);
  return read_config(Reader(processor_config_json, "image_processor.", std::move(*found)));
}

void ImageProcessorConfig::save(const std::filesystem::path& preprocessor_config_json) const {
  const nlohmann::ordered_json root = {
      {"image_processor_type", "Qwen2VLImageProcessor"},
      {"processor_class", "Qwen2_5_VLProcessor"},
      {"patch_size", patch_size},
      {"temporal_patch_size", temporal_patch_size},
      {"merge_size", merge_size},
      {"min_pixels", min_pixels},
      {"max_pixels", max_pixels},
      {"size", {{"shortest_edge", min_pixels}, {"longest_edge", max_pixels}}},
      {"image_mean", image_mean},
      {"image_std", image_std},
      {"rescale_factor", rescale_factor},
      {"ferro_forced_size", forced_size},
      {"ferro_standardize", standardize},
      {"ferro_max_decoded_pixels", max_decoded_pixels},
  };
  write_file_atomically(preprocessor_config_json, root.dump(2) + "\n");
}

std::optional<FoundImageProcessor> find_image_processor(const std::filesystem::path& model_folder) {
  const std::filesystem::path nested = model_folder / "processor_config.json",
                              flat = model_folder / "preprocessor_config.json";
  if (std::filesystem::exists(nested))
    if (const auto config = ImageProcessorConfig::load_nested(nested))
      return FoundImageProcessor{nested, *config};
  if (std::filesystem::exists(flat)) return FoundImageProcessor{flat, ImageProcessorConfig::load(flat)};
  return std::nullopt;
}

}  // namespace ferro
