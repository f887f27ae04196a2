#include "launch/predictions.h"

#include <cstdint>
#include <map>
#include <sstream>
#include <string_view>
#include <utility>

#include <nlohmann/json.hpp>

#include "core/atomic_file.h"
#include "core/error.h"

namespace ferro {

void write_predictions(const std::filesystem::path& path, std::span<const Prediction> predictions) {
  std::string lines;
  for (const Prediction& p : predictions) {
    const nlohmann::ordered_json line{{"id", p.id},
                                      {"image_path", p.image_path},
                                      {"truth", p.truth},
                                      {"predicted", p.predicted},
                                      {"response", p.response}};
    lines += line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  }
  if (path.has_parent_path()) create_folders(path.parent_path());
  write_file_atomically(path, lines);
}

std::vector<Prediction> read_predictions(const std::filesystem::path& path) {
  std::istringstream lines(read_file(path));
  std::vector<Prediction> predictions;
  std::string line;
  for (std::int64_t number = 1; std::getline(lines, line); ++number) {
    if (line.empty()) continue;
    try {
      const auto json = nlohmann::json::parse(line);
      predictions.push_back({json.at("id").get<std::int64_t>(), json.value("image_path", ""),
                             json.at("truth").get<std::string>(), json.at("predicted").get<std::string>(),
                             json.value("response", "")});
    } catch (const nlohmann::json::exception& error) {
      fail(ErrorCode::kData, "{} line {}: not a prediction as `ferro eval --out` writes it: {}",
           path.string(), number, error.what());
    }
  }
  return predictions;
}

PairedInterval compare_predictions(std::span<const Prediction> a, std::span<const Prediction> b) {
  std::map<std::pair<std::int64_t, std::string_view>, bool> right_of_a;
  for (const Prediction& p : a) right_of_a[{p.id, p.truth}] = p.predicted == p.truth;
  std::vector<std::uint8_t> right_a, right_b;
  for (const Prediction& p : b) {
    const auto found = right_of_a.find({p.id, p.truth});
    if (found == right_of_a.end()) continue;
    right_a.push_back(found->second ? 1 : 0);
    right_b.push_back(p.predicted == p.truth ? 1 : 0);
  }
  if (right_a.empty())
    fail(ErrorCode::kData, "the two sets of predictions have no row (id and truth) in common");
  return paired_interval(right_a, right_b);
}

}  // namespace ferro
