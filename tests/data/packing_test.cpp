#include "data/packing.h"

#include <catch2/catch.hpp>

#include "core/error.h"

namespace ferro {
namespace {

using Ids = std::vector<std::int32_t>;

constexpr std::int32_t kImage = 90;
const VisionTokens kTokens{.image_token_id = kImage, .video_token_id = 91};

// Positions differ per axis so that a mix-up shows.
Prompt prompt_of(Ids ids, std::int32_t next) {
  Prompt prompt;
  prompt.positions.ids.resize(3 * ids.size());
  for (std::size_t axis = 0; axis < 3; ++axis) {
    for (std::size_t i = 0; i < ids.size(); ++i) {
      prompt.positions.ids[axis * ids.size() + i] = static_cast<std::int32_t>(100 * axis + i);
    }
  }
  prompt.positions.next = next;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] != kImage || (i > 0 && ids[i - 1] == kImage)) continue;
    prompt.images.push_back(std::make_shared<ImageInput>());
    prompt.image_token_begin.push_back(static_cast<std::int32_t>(i));
  }
  prompt.ids = std::move(ids);
  return prompt;
}

bool same(const Segment& a, const Segment& b) {
  return a.begin == b.begin && a.end == b.end && a.prefix_begin == b.prefix_begin &&
         a.prefix_end == b.prefix_end;
}
bool same(const Target& a, const Target& b) {
  return a.row == b.row && a.token == b.token && a.sequence == b.sequence;
}

template <class T>
void check_same(const std::vector<T>& got, const std::vector<T>& expected) {
  REQUIRE(got.size() == expected.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    INFO("entry " << i);
    CHECK(same(got[i], expected[i]));
  }
}

TEST_CASE("a group holds its prompt once and each answer attends to it") {
  BatchPacker packer;
  packer.add_prompt(prompt_of({1}, 1));
  const std::vector<Ids> answers{{10, 11}, {}, {12}};
  packer.add_group(prompt_of({5, kImage, kImage, 6}, 7), answers);
  CHECK(packer.num_tokens() == 8);
  CHECK(packer.num_sequences() == 3);
  const PackedBatch batch = packer.finish();
  CHECK(batch.tokens == Ids{1, 5, kImage, kImage, 6, 10, 11, 12});
  check_same(batch.segments, {{0, 1, 0, 0}, {1, 5, 0, 0}, {5, 7, 1, 5}, {7, 8, 1, 5}});
  // Row 4 is the prompt's last: it predicts 10 of answer 0 and 12 of answer 2; answer 1 is empty.
  check_same(batch.targets, {{4, 10, 0}, {5, 11, 0}, {4, 12, 2}});
  CHECK(batch.position_ids == Ids{0,   0,   1,   2,   3,   7, 8, 7,  //
                                  100, 100, 101, 102, 103, 7, 8, 7,  //
                                  200, 200, 201, 202, 203, 7, 8, 7});
  REQUIRE(batch.images.size() == 1);
  CHECK(batch.images[0].token_begin == 2);
  CHECK(batch.num_sequences == 3);
}

TEST_CASE("a row is one segment and learns its answer, or all its tokens but placeholders") {
  const Prompt prompt = prompt_of({5, kImage, kImage, 6}, 4);
  const Ids answer{10, 11};
  BatchPacker packer;
  packer.add_row(prompt, answer, false, kTokens);
  packer.add_row(prompt, answer, true, kTokens);
  const PackedBatch batch = packer.finish();
  check_same(batch.segments, {{0, 6, 0, 0}, {6, 12, 0, 0}});
  check_same(batch.targets, {{3, 10, 0}, {4, 11, 0}, {8, 6, 1}, {9, 10, 1}, {10, 11, 1}});
  CHECK(batch.images[1].token_begin == 7);
}

TEST_CASE("finish starts an empty batch") {
  BatchPacker packer;
  packer.add_row(prompt_of({1, 2}, 2), Ids{3}, false, kTokens);
  CHECK(packer.finish().tokens.size() == 3);
  CHECK(packer.num_tokens() == 0);
  CHECK(packer.num_sequences() == 0);
  const PackedBatch empty = packer.finish();
  CHECK(empty.tokens.empty());
  CHECK(empty.position_ids.empty());
  CHECK(empty.segments.empty());
}

TEST_CASE("a prompt with positions of another length is a bug that is caught") {
  Prompt prompt = prompt_of({1, 2}, 2);
  prompt.positions.ids.pop_back();
  BatchPacker packer;
  CHECK_THROWS_AS(packer.add_prompt(prompt), Error);
  CHECK_THROWS_AS(packer.add_group(Prompt{}, std::vector<Ids>{{1}}), Error);
}

}  // namespace
}  // namespace ferro
