#include <catch2/catch.hpp>

#include "data/positions.h"
#include "tests/golden.h"

namespace ferro {
namespace {

using nlohmann::json;
using Media = std::vector<std::shared_ptr<const ImageInput>>;

/// Grids and seconds of a whole case, handed out as its rows ask for them.
struct MediaQueue {
  const json& images;
  const json& videos;
  const json& seconds;
  std::size_t next_image = 0, next_video = 0;

  std::shared_ptr<const ImageInput> take(bool video) {
    ImageInput input;
    const std::size_t index = video ? next_video++ : next_image++;
    const json& grid = (video ? videos : images).at(index);
    input.grid = {grid[0], grid[1], grid[2]};
    input.video = video;
    input.second_per_grid = video && seconds.is_array() ? seconds.at(index).get<double>() : 1.0;
    return std::make_shared<const ImageInput>(std::move(input));
  }
};

struct Row {
  std::vector<std::int32_t> ids;
  std::vector<std::size_t> places;  ///< Of the unpadded tokens.
  Media media;
};

Row unpadded_row(const json& item, std::size_t row, const VisionTokens& tokens, MediaQueue& queue) {
  Row out;
  const json& ids = item["input_ids"][row];
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (item["attention_mask"][row][i] == 0) continue;
    out.places.push_back(i);
    out.ids.push_back(ids[i]);
  }
  const std::int64_t merge = std::int64_t{tokens.spatial_merge_size} * tokens.spatial_merge_size;
  for (std::size_t i = 0; i < out.ids.size();) {
    const bool video = out.ids[i] == tokens.video_token_id;
    if (!video && out.ids[i] != tokens.image_token_id) {
      ++i;
      continue;
    }
    out.media.push_back(queue.take(video));
    i += static_cast<std::size_t>(out.media.back()->grid.patches() / merge);
  }
  return out;
}

bool ends_in_text(const Row& row, const VisionTokens& tokens) {
  return !row.ids.empty() && row.ids.back() != tokens.image_token_id &&
         row.ids.back() != tokens.video_token_id;
}

void compare(const json& item, const VisionTokens& tokens, PositionRule rule, const json& positions,
             const json& deltas) {
  std::size_t compared = 0, different = 0;
  const auto check = [&](std::int32_t got, const json& stored) {
    CHECK(got == stored.get<std::int32_t>());
    ++compared;
    different += got == stored.get<std::int32_t>() ? 0 : 1;
  };
  MediaQueue queue{item["image_grid_thw"], item["video_grid_thw"], item["second_per_grid_ts"]};
  for (std::size_t row = 0; row < item["input_ids"].size(); ++row) {
    const Row input = unpadded_row(item, row, tokens, queue);
    const MropePositions got = mrope_positions(input.ids, input.media, tokens, rule);
    for (std::size_t axis = 0; axis < 3; ++axis) {
      for (std::size_t i = 0; i < input.places.size(); ++i) {
        check(got.ids[axis * input.ids.size() + i], positions[axis][row][input.places[i]]);
      }
    }
    // The old rule subtracts the padded length.
    const std::size_t padding =
        rule == PositionRule::kHub ? item["input_ids"][row].size() - input.ids.size() : 0;
    check(got.delta - static_cast<std::int32_t>(padding), deltas[row][0]);
    if (ends_in_text(input, tokens)) {
      // Without its last token the row goes on where the reference placed that token.
      Row shorter = input;
      shorter.ids.pop_back();
      const std::int32_t next = mrope_positions(shorter.ids, shorter.media, tokens, rule).next;
      for (std::size_t axis = 0; axis < 3; ++axis) check(next, positions[axis][row][input.places.back()]);
    }
  }
  testing::report_equality("positions by the " +
                               std::string(rule == PositionRule::kHub ? "hub's" : "transformers 5") +
                               " rule, " + item["title"].get<std::string>(),
                           compared, different);
}

TEST_CASE("position ids equal get_rope_index of both generations of transformers") {
  const auto golden = testing::golden_dir();
  FERRO_SKIP_UNLESS_GOLDEN(golden, "/forward/rope_index");
  const json manifest = testing::read_json(*golden / "manifest.json");
  const json& entry = manifest["forward"]["rope_index"];
  const json cases = testing::read_json(*golden / entry["file"].get<std::string>());
  REQUIRE(cases.size() == entry["cases"].get<std::size_t>());
  const json config =
      testing::read_json(*golden / manifest["model"]["checkpoints"][0]["config"].get<std::string>());
  const json& special = manifest["model"]["special_ids"];
  for (const json& item : cases) {
    INFO(item["title"]);
    VisionTokens tokens{.image_token_id = special["image"],
                        .video_token_id = special["video"],
                        .vision_start_token_id = special["vision_start"],
                        .vision_end_token_id = special["vision_end"]};
    tokens.spatial_merge_size = config["vision_config"].value("spatial_merge_size", 2);
    tokens.tokens_per_second = item["tokens_per_second"];
    compare(item, tokens, PositionRule::kTransformers5, item["position_ids"], item["rope_deltas"]);
    compare(item, tokens, PositionRule::kHub, item["legacy_position_ids"], item["legacy_rope_deltas"]);
  }
}

}  // namespace
}  // namespace ferro
