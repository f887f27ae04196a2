#include "trainer/group_packing.h"

#include <catch2/catch.hpp>

#include "trainer/metric_sums.h"

namespace ferro {
namespace {

AnsweredPrompt group_of(std::size_t prompt_tokens, const std::vector<std::size_t>& answer_tokens) {
  auto prompt = std::make_shared<Prompt>();
  prompt->ids.assign(prompt_tokens, 1);
  prompt->positions.ids.assign(3 * prompt_tokens, 0);
  prompt->positions.next = static_cast<std::int32_t>(prompt_tokens);
  AnsweredPrompt group{prompt, {}};
  for (const std::size_t length : answer_tokens) group.answers.emplace_back(length, 2);
  return group;
}

}  // namespace

TEST_CASE("groups are packed in order up to the budget") {
  const std::vector<AnsweredPrompt> groups{group_of(10, {5, 5}), group_of(10, {5}), group_of(10, {5, 5, 5})};
  const auto micro = pack_groups(groups, 40);  // 20 + 15, then 25
  REQUIRE(micro.size() == 2);
  CHECK(micro[0].batch.tokens.size() == 35);
  CHECK(micro[0].answers.size() == 3);
  CHECK(micro[0].answers[2].group == 1);
  CHECK(micro[0].offsets == std::vector<std::int64_t>{0, 5, 10, 15});
  CHECK(micro[1].batch.tokens.size() == 25);
}

TEST_CASE("a group above the budget is split between answers, its prompt repeated") {
  const std::vector<AnsweredPrompt> groups{group_of(10, {5, 5, 5, 40, 0, 5}), group_of(3, {2})};
  const auto micro = pack_groups(groups, 20);
  // 10 + 5 + 5, 10 + 5, 10 + 40 (alone above the budget), 10 + 0 + 5 and the next group's 3 + 2.
  REQUIRE(micro.size() == 4);
  CHECK(micro[0].batch.tokens.size() == 20);
  CHECK(micro[1].batch.tokens.size() == 15);
  CHECK(micro[2].batch.tokens.size() == 50);
  CHECK(micro[2].answers.size() == 1);
  CHECK(micro[3].batch.tokens.size() == 20);
  std::size_t answers = 0;
  for (const MicroBatch& m : micro) answers += m.answers.size();
  CHECK(answers == 7);
}

TEST_CASE("sums of metrics merge: means by count, extremes by comparison") {
  MetricSums a, b;
  add_to_mean(a, "x", 1, 1);
  add_to_mean(b, "x", 5, 3);
  keep_largest(a, "y", 1);
  keep_largest(b, "y", 2);
  keep_least(a, "z", 1);
  keep_least(b, "z", 2);
  merge_sums(a, b);
  const auto metrics = metrics_of(a);
  CHECK(metrics.at("x") == 1.5);  // (1 + 5) / (1 + 3)
  CHECK(metrics.at("y") == 2);
  CHECK(metrics.at("z") == 1);
}

}  // namespace ferro
