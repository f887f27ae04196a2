#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <set>
#include <string>

#include <unistd.h>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "core/atomic_file.h"
#include "core/error.h"
#include "data/faces/face_dataset.h"
#include "data/image/image_processor.h"

namespace ferro {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class FacesFolder {
 public:
  FacesFolder() : path_(fs::temp_directory_path() / ("ferro-faces-" + std::to_string(::getpid()))) {}
  ~FacesFolder() { fs::remove_all(path_); }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

std::map<std::string, std::string> files_of(const fs::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) files[fs::relative(entry.path(), folder).string()] = read_file(entry.path());
  }
  return files;
}

FacePicture neutral_face(const ActionUnits& units) {
  return render_face(make_identity(1, 5), units, FaceView{}, 48, false);
}

/// Mean absolute difference over rows [from, to) of two 48 x 48 grey faces.
double difference(const FacePicture& a, const FacePicture& b, std::size_t from, std::size_t to) {
  double sum = 0.0;
  for (std::size_t i = from * 48; i < to * 48; ++i)
    sum += std::abs(static_cast<int>(a.bytes[i]) - static_cast<int>(b.bytes[i]));
  return sum / static_cast<double>((to - from) * 48);
}

}  // namespace

TEST_CASE("the same options write the same bytes, and another seed other faces") {
  FaceDatasetOptions options;
  options.count = 16;
  FacesFolder folder;
  write_face_dataset(options, folder.path() / "a");
  write_face_dataset(options, folder.path() / "b");
  options.seed = 2;
  write_face_dataset(options, folder.path() / "c");
  const auto a = files_of(folder.path() / "a");
  CHECK(a.size() == 16 + 3);
  CHECK(a == files_of(folder.path() / "b"));
  CHECK(a.at("images/000000.png") != files_of(folder.path() / "c").at("images/000000.png"));
}

TEST_CASE("a written set has the published fields, and its reasoning names exactly the drawn units") {
  FaceDatasetOptions options;
  options.count = 40;
  options.first_identity = 300;
  options.reasoning = ReasoningStyle::kFull;
  FacesFolder folder;
  write_face_dataset(options, folder.path());
  const json sft = json::parse(read_file(folder.path() / "sft.json")),
             labels = json::parse(read_file(folder.path() / "sft_labels.json")),
             rl = json::parse(read_file(folder.path() / "rl.json"));
  REQUIRE(sft.size() == 40);
  REQUIRE(labels.size() == 40);
  REQUIRE(rl.size() == 40);
  for (std::size_t i = 0; i < 40; ++i) {
    const FaceSample sample = sample_face(options, static_cast<std::int64_t>(i));
    const std::string response = sft[i].at("response");
    INFO(response);
    CHECK(response.starts_with("<think>"));
    CHECK(response.ends_with("</think><answer>" + sample.label + "</answer>"));
    for (const ActionUnit& unit : action_units()) {
      const bool named = response.find("(AU" + std::to_string(unit.number) + ")") != std::string::npos;
      CHECK(named == (sample.units.stronger(unit.number) > 0.0));
    }
    CHECK(labels[i].at("response") == "<answer>" + sample.label + "</answer>");
    CHECK(rl[i].at("solution") == sample.label);
    CHECK(rl[i].at("problem") == options.question);
    CHECK(sft[i].at("question") == options.question);
    CHECK(fs::exists(folder.path() / rl[i].at("image_path").get<std::string>()));
  }
}

TEST_CASE("labels are balanced to within one and identities stay in their range") {
  FaceDatasetOptions options;
  options.count = 83;
  options.first_identity = 1000;
  options.identities = 10;
  std::map<std::string, int> counts;
  std::set<std::int64_t> identities;
  for (std::int64_t i = 0; i < options.count; ++i) {
    const FaceSample sample = sample_face(options, i);
    ++counts[sample.label];
    identities.insert(sample.identity);
  }
  CHECK(counts.size() == expression_labels().size());
  for (const auto& [label, count] : counts) CHECK((count == 10 || count == 11));
  CHECK(*identities.begin() >= 1000);
  CHECK(*identities.rbegin() < 1010);
  CHECK(identities.size() == 10);
}

TEST_CASE("each action unit changes the part of the face that it moves") {
  const FacePicture rest = neutral_face({});
  // Rows of the 48: brows and eyes lie above row 25, nose and mouth below.
  for (const int unit : {1, 2, 4, 5, 7}) {
    INFO("unit " << unit);
    ActionUnits units;
    units.set(unit, 1.0);
    const FacePicture face = neutral_face(units);
    CHECK(difference(rest, face, 4, 25) > 0.3);
    CHECK(difference(rest, face, 34, 48) == 0.0);
  }
  for (const int unit : {12, 14, 15, 16, 20, 23, 26}) {
    INFO("unit " << unit);
    ActionUnits units;
    units.set(unit, 1.0);
    const FacePicture face = neutral_face(units);
    CHECK(difference(rest, face, 28, 48) > 0.3);
    CHECK(difference(rest, face, 0, 14) < 0.05);
  }
  for (const int unit : {6, 9}) {
    INFO("unit " << unit);
    ActionUnits units;
    units.set(unit, 1.0);
    CHECK(difference(rest, neutral_face(units), 12, 34) > 0.3);
  }
}

TEST_CASE("a unit on one side leaves the other side of the mouth nearly at rest") {
  ActionUnits units;
  units.right[12] = units.right[14] = 1.0;
  const FacePicture rest = neutral_face({}), face = neutral_face(units);
  double left_of_picture = 0.0, right_of_picture = 0.0;
  for (std::size_t row = 30; row < 46; ++row) {
    for (std::size_t column = 0; column < 48; ++column) {
      const double change = std::abs(static_cast<int>(rest.bytes[row * 48 + column]) -
                                     static_cast<int>(face.bytes[row * 48 + column]));
      (column < 24 ? left_of_picture : right_of_picture) += change;
    }
  }
  CHECK(left_of_picture > 3.0 * right_of_picture);  // The person's right is the picture's left.
}

TEST_CASE("a face's PNG decodes to its bytes, grey and colour") {
  for (const bool colour : {false, true}) {
    const FacePicture face = render_face(make_identity(3, 9), {}, FaceView{}, 64, colour);
    const auto png = encode_png(face);
    const Picture decoded = decode_image(std::as_bytes(std::span(png)), 1 << 20, "face");
    CHECK(decoded.width == 64);
    std::vector<std::uint8_t> expected = face.bytes;
    if (!colour) {
      expected.clear();
      for (const std::uint8_t value : face.bytes) expected.insert(expected.end(), 3, value);
    }
    CHECK(decoded.bytes == expected);
  }
}

TEST_CASE("options out of range and folders that cannot be written are refused") {
  FaceDatasetOptions options;
  options.count = 1;
  options.size = 8;
  FacesFolder folder;
  CHECK_THROWS_AS(write_face_dataset(options, folder.path()), Error);
  options.size = 48;
  options.difficulty = 1.5;
  CHECK_THROWS_AS(write_face_dataset(options, folder.path()), Error);
  options.difficulty = 0.5;
  options.identities = 0;
  CHECK_THROWS_AS(write_face_dataset(options, folder.path()), Error);
  options.identities = 1;
  try {
    write_face_dataset(options, "/proc/ferro-cannot-write-here");
    FAIL("wrote into /proc");
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::kIo);
  }
}

}  // namespace ferro
