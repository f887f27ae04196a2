#include "data/faces/face_dataset.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <numbers>
#include <string_view>
#include <system_error>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/atomic_file.h"
#include "core/error.h"
#include "core/keyed_random.h"
#include "data/facs.h"

namespace ferro {
namespace {

constexpr std::uint64_t kFaceField = 3, kOrderField = 4, kViewField = 5, kTextField = 6;

/// Variants beside the prototypes of data/facs.h.
struct Variant {
  std::string_view label;
  int unit;
  double probability;
};
constexpr Variant kVariants[] = {
    {"happiness", 26, 0.35}, {"anger", 15, 0.15}, {"disgust", 4, 0.3}, {"sadness", 7, 0.15}};

/// How probable it is that a unit of the prototype shows: some are the expression, others accompany it.
double show_probability(std::string_view label, int unit) {
  if (label == "surprise" && unit == 5) return 0.85;
  if (label == "fear" && (unit == 26 || unit == 7)) return 0.5;
  if (label == "disgust" && unit != 9) return 0.75;
  if (label == "anger" && unit == 5) return 0.6;
  if (label == "contempt" && unit == 12) return 0.85;
  return 0.95;
}

std::size_t label_of(const FaceDatasetOptions& options, std::int64_t index) {
  KeyedRandom random(options.seed, RandomPurpose::kFaces,
                     {kOrderField, static_cast<std::uint64_t>(options.first_identity),
                      static_cast<std::uint64_t>(index / 8)});
  std::array<std::size_t, 8> order{0, 1, 2, 3, 4, 5, 6, 7};
  for (std::size_t i = 7; i > 0; --i) std::swap(order[i], order[random.below(i + 1)]);
  return order[static_cast<std::size_t>(index % 8)];
}

/// The units of `label` (contempt on one side) with varied strength; at higher difficulty one may be missing
/// and a strange one may be added, so that the label is not always what the face shows most.
ActionUnits draw_units(KeyedRandom& random, const std::string& label, double difficulty) {
  ActionUnits units;
  const std::vector<int> prototype = action_units_of(label);
  const double strength = random.uniform(0.75 - 0.58 * difficulty, 1.0);
  const bool one_missing = random.uniform() < 0.46 * difficulty && prototype.size() > 2;
  const std::size_t missing = prototype.empty() ? 0 : random.below(prototype.size());
  auto& side = random.below(2) == 0 ? units.right : units.left;
  for (std::size_t i = 0; i < prototype.size(); ++i) {
    const double intensity = std::clamp(strength * random.uniform(0.7, 1.25), 0.12, 1.0);
    const bool shown = random.uniform() < show_probability(label, prototype[i]);
    if (!shown || (one_missing && i == missing)) continue;
    if (label == "contempt") {
      side[static_cast<std::size_t>(prototype[i])] = intensity;
    } else {
      units.set(prototype[i], intensity);
    }
  }
  for (const Variant& variant : kVariants) {
    if (variant.label == label && random.uniform() < variant.probability)
      units.set(variant.unit, strength * 0.8);
  }
  constexpr std::array<int, 9> kStrange{1, 2, 4, 5, 6, 7, 12, 15, 26};
  if (random.uniform() < 0.58 * difficulty) {
    const int unit = kStrange[random.below(kStrange.size())];
    const double intensity = random.uniform(0.1, 0.25 + 0.46 * difficulty);
    if (units.stronger(unit) == 0.0) units.set(unit, intensity);
  }
  return units;
}

FaceView draw_view(KeyedRandom& random, double difficulty) {
  const double d = 1.16 * difficulty;
  const auto spread = [&](double sigma) { return sigma * std::clamp(random.normal(), -2.2, 2.2); };
  FaceView view;
  view.yaw = spread(0.22 * d);
  view.pitch = spread(0.10 * d);
  view.roll = spread(0.10 * d);
  view.shift_x = spread(0.03 * d);
  view.shift_y = 0.02 + spread(0.03 * d);
  view.scale = 1.0 + spread(0.06 * d);
  view.gaze_x = spread(0.4);
  view.gaze_y = spread(0.3);
  view.light_angle = random.uniform(0.0, 2.0 * std::numbers::pi);
  view.light_strength = random.uniform(0.0, 0.7 * d);
  view.exposure = 1.0 + spread(0.16 * d);
  view.contrast = 1.0 + spread(0.14 * d);
  view.noise = random.uniform(0.0, 14.0 * d);
  view.blur = random.uniform() < 0.5 * d ? random.uniform(0.3, 0.4 + 0.8 * d) : 0.0;
  view.backdrop = random.uniform(0.1, 0.95);
  view.noise_key = (std::uint64_t{random.next_u32()} << 32) | random.next_u32();
  return view;
}

void check(const FaceDatasetOptions& options) {
  if (options.count < 0 || options.count > 999'999)
    fail(ErrorCode::kUsage, "a set has 0 to 999999 faces, not {}", options.count);
  if (options.first_identity < 0 || options.identities < 1)
    fail(ErrorCode::kUsage, "identities [{}, {} + {}) are no range", options.first_identity,
         options.first_identity, options.identities);
  if (!(options.difficulty >= 0.0 && options.difficulty <= 1.0))
    fail(ErrorCode::kUsage, "difficulty lies within 0 and 1, not {}", options.difficulty);
}

/// Units of either side, ascending, that data/facs.h can put into words.
std::vector<int> named_units(const ActionUnits& units) {
  std::vector<int> named;
  for (const ActionUnit& unit : action_units()) {
    if (units.stronger(unit.number) > 0.0) named.push_back(unit.number);
  }
  return named;
}

/// Plain write: a picture is rewritten as a whole by the next run, and thousands of fsyncs would cost
/// minutes.
void write_picture(const std::filesystem::path& path, const std::vector<std::uint8_t>& png) {
  std::FILE* file = std::fopen(path.c_str(), "wb");
  if (file == nullptr) fail(ErrorCode::kIo, "{}: cannot create: {}", path.string(), std::strerror(errno));
  const bool written = std::fwrite(png.data(), 1, png.size(), file) == png.size();
  if (const bool closed = std::fclose(file) == 0; !written || !closed)
    fail(ErrorCode::kIo, "{}: its {} bytes cannot be written: {}", path.string(), png.size(),
         std::strerror(errno));
}

/// One row a line, so that the file reads and compares well.
void write_rows(const std::filesystem::path& path, const nlohmann::ordered_json& rows) {
  std::string text = "[";
  for (std::size_t i = 0; i < rows.size(); ++i)
    text += fmt::format("{}\n  {}", i > 0 ? "," : "", rows[i].dump());
  write_file_atomically(path, text + "\n]\n");
}

constexpr std::array kRowFiles{"sft.json", "sft_labels.json", "rl.json"};

bool is_drawn_picture(const std::filesystem::path& path) {
  const std::string stem = path.stem().string();
  return path.extension() == ".png" && stem.size() == 6 &&
         std::all_of(stem.begin(), stem.end(), [](unsigned char c) { return std::isdigit(c) != 0; });
}

/// What an earlier set left would mix with this one: it goes, or is a reason to stop.
void clear_earlier_set(const std::filesystem::path& folder, bool overwrite) {
  std::vector<std::filesystem::path> left;
  std::error_code error;
  for (const char* name : kRowFiles)
    if (std::filesystem::exists(folder / name, error)) left.push_back(folder / name);
  for (const auto& entry : std::filesystem::directory_iterator(folder / "images", error))
    if (is_drawn_picture(entry.path())) left.push_back(entry.path());
  if (!left.empty() && !overwrite)
    fail(ErrorCode::kUsage, "{} holds a set already ({}): name another folder, or add --overwrite",
         folder.string(), left.front().filename().string());
  for (const auto& path : left)
    if (!std::filesystem::remove(path, error) && error)
      fail(ErrorCode::kIo, "{} cannot be removed: {}", path.string(), error.message());
}

}  // namespace

FaceSample sample_face(const FaceDatasetOptions& options, std::int64_t index) {
  const std::uint64_t first = static_cast<std::uint64_t>(options.first_identity),
                      face = static_cast<std::uint64_t>(index);
  KeyedRandom random(options.seed, RandomPurpose::kFaces, {kFaceField, first, face});
  KeyedRandom view(options.seed, RandomPurpose::kFaces, {kViewField, first, face});
  FaceSample sample;
  sample.identity = options.first_identity +
                    static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(options.identities)));
  sample.label = expression_labels()[label_of(options, index)];
  sample.units = draw_units(random, sample.label, options.difficulty);
  sample.view = draw_view(view, options.difficulty);
  return sample;
}

FacePicture draw_face(const FaceDatasetOptions& options, const FaceSample& sample) {
  return render_face(make_identity(options.seed, sample.identity), sample.units, sample.view, options.size,
                     options.colour);
}

void write_face_dataset(const FaceDatasetOptions& options, const std::filesystem::path& folder) {
  check(options);
  clear_earlier_set(folder, options.overwrite);
  create_folders(folder / "images");
  using nlohmann::ordered_json;
  ordered_json sft = ordered_json::array(), labels = ordered_json::array(), rl = ordered_json::array();
  for (std::int64_t index = 0; index < options.count; ++index) {
    const FaceSample sample = sample_face(options, index);
    const std::string path = fmt::format("images/{:06}.png", index);
    write_picture(folder / path, encode_png(draw_face(options, sample)));
    const std::vector<int> units = named_units(sample.units);
    KeyedRandom wording(
        options.seed, RandomPurpose::kFaces,
        {kTextField, static_cast<std::uint64_t>(options.first_identity), static_cast<std::uint64_t>(index)});
    const std::string reasoning = reasoning_text(sample.label, units, wording, options.reasoning);
    const std::string answer = fmt::format("<answer>{}</answer>", sample.label);
    sft.push_back({{"image_path", path}, {"question", options.question}, {"response", reasoning}});
    labels.push_back({{"image_path", path}, {"question", options.question}, {"response", answer}});
    rl.push_back({{"image_path", path}, {"problem", options.question}, {"solution", sample.label}});
  }
  write_rows(folder / "sft.json", sft);
  write_rows(folder / "sft_labels.json", labels);
  write_rows(folder / "rl.json", rl);
}

}  // namespace ferro
