#include "data/positions.h"

#include <limits>

#include <catch2/catch.hpp>

#include "core/error.h"

namespace ferro {
namespace {

using Ids = std::vector<std::int32_t>;
using Media = std::vector<std::shared_ptr<const ImageInput>>;

constexpr std::int32_t kImageId = 90, kVideoId = 91;
const VisionTokens kImageAndVideo{.image_token_id = kImageId, .video_token_id = kVideoId};

std::shared_ptr<const ImageInput> medium(GridThw grid, bool video = false, double seconds = 1.0) {
  ImageInput input;
  input.grid = grid;
  input.video = video;
  input.second_per_grid = seconds;
  return std::make_shared<const ImageInput>(std::move(input));
}

TEST_CASE("text has the same position on all axes") {
  const MropePositions got = mrope_positions(Ids{3, 4, 5}, Media{}, kImageAndVideo);
  CHECK(got.ids == Ids{0, 1, 2, 0, 1, 2, 0, 1, 2});
  CHECK(got.next == 3);
  CHECK(got.delta == 0);
}

TEST_CASE("two images side by side without a token between them are told apart by their grids") {
  // 1x2 then 2x1 merged tokens: the second starts at max(1, 2) = 2; after it comes 2 + 2.
  const MropePositions got = mrope_positions(Ids{kImageId, kImageId, kImageId, kImageId, 7},
                                             Media{medium({1, 2, 4}), medium({1, 4, 2})}, kImageAndVideo);
  CHECK(got.ids == Ids{0, 0, 2, 2, 4, 0, 0, 2, 3, 4, 0, 1, 2, 2, 4});
  CHECK(got.next == 5);
}

TEST_CASE("the rules differ on video: fractions of seconds, and where text goes on") {
  const Ids ids{kVideoId, kVideoId, 7};
  const Media media{medium({2, 2, 2}, true, 0.75)};
  // Hub: int(1 * 0.75 * 2) = 1, text at max + 1 = 2. Transformers 5: int(0.75) = 0 s, text at 0 + max(1, 1)
  // = 1.
  CHECK(mrope_positions(ids, media, kImageAndVideo, PositionRule::kHub).ids ==
        Ids{0, 1, 2, 0, 0, 2, 0, 0, 2});
  CHECK(mrope_positions(ids, media, kImageAndVideo, PositionRule::kTransformers5).ids ==
        Ids{0, 0, 1, 0, 0, 1, 0, 0, 1});
}

TEST_CASE("seconds of a video are multiplied in fp32") {
  // torch.tensor(69) * (2 / 15) * 25 is 230; in fp64 it is 229.99..., which would be cut to 229.
  const VisionTokens tokens{.image_token_id = kImageId, .video_token_id = kVideoId, .tokens_per_second = 25};
  const Media media{medium({70, 2, 2}, true, 2.0 / 15)};
  const MropePositions got = mrope_positions(Ids(70, kVideoId), media, tokens, PositionRule::kHub);
  CHECK(got.ids[69] == 230);
}

TEST_CASE("an answer goes on where text does, which after a long video is below its last seconds") {
  // Three frame pairs of one token, two seconds each: times 0, 4, 8. Hub: text at 9. Transformers 5:
  // text at 0 + max(1, 1) = 1, though the largest position is 8.
  const Ids ids{kVideoId, kVideoId, kVideoId, 7};
  const Media media{medium({3, 2, 2}, true, 2.0)};
  const MropePositions hub = mrope_positions(ids, media, kImageAndVideo, PositionRule::kHub);
  CHECK(hub.ids[3] == 9);
  CHECK(hub.next == 10);
  CHECK(hub.delta == 6);
  const MropePositions newer = mrope_positions(ids, media, kImageAndVideo, PositionRule::kTransformers5);
  CHECK(newer.ids[2] == 8);
  CHECK(newer.ids[3] == 1);
  CHECK(newer.next == 2);
  CHECK(newer.delta == 5);
}

TEST_CASE("placeholders that do not match the grids are refused") {
  CHECK_THROWS_WITH(mrope_positions(Ids{kImageId, 1}, Media{medium({1, 4, 4})}, kImageAndVideo),
                    Catch::Contains("needs 4"));
  CHECK_THROWS_WITH(mrope_positions(Ids{kImageId, kImageId}, Media{medium({1, 2, 2})}, kImageAndVideo),
                    Catch::Contains("more runs"));
  CHECK_THROWS_WITH(mrope_positions(Ids{1}, Media{medium({1, 2, 2})}, kImageAndVideo),
                    Catch::Contains("only 0"));
  CHECK_THROWS_AS(mrope_positions(Ids{kVideoId}, Media{medium({1, 2, 2})}, kImageAndVideo), Error);
  CHECK_THROWS_AS(mrope_positions(Ids{kImageId}, Media{medium({1, 3, 2})}, kImageAndVideo), Error);
  CHECK_THROWS_AS(mrope_positions(Ids{kImageId}, Media{medium({0, 2, 2})}, kImageAndVideo), Error);
}

TEST_CASE("absurd video times are refused, not overflowed") {
  for (const double seconds : {1e30, -1.0, std::numeric_limits<double>::quiet_NaN()}) {
    CHECK_THROWS_AS(
        mrope_positions(Ids{kVideoId, kVideoId}, Media{medium({2, 2, 2}, true, seconds)}, kImageAndVideo),
        Error);
  }
}

}  // namespace
}  // namespace ferro
