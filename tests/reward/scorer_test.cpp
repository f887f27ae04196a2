#include "reward/scorer.h"

#include <stdexcept>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>

#include "core/error.h"

namespace ferro {
namespace {

Verdict throws_on_empty(const RewardInput& input) {
  if (input.completion.empty()) throw std::runtime_error("nothing to judge");
  if (input.completion == "odd") throw 7;
  return {0.5, "ok"};
}

}  // namespace

TEST_CASE("the local scorer judges every answer by every function, in the order of their names") {
  const auto scorer = make_local_scorer(std::vector<std::string>{"format", "accuracy"});
  CHECK(scorer->function_names() == std::vector<std::string>{"format", "accuracy"});
  const GroupVerdicts group = scorer->score(
      {"q", "sad", {"<think>x</think><answer>sad</answer>", "sad", "<think>x</think><answer>fear</answer>"}});
  REQUIRE(group.verdicts.size() == 2);
  const double expected[2][3] = {{1, 0, 1}, {1, 1, 0}};
  for (std::size_t f = 0; f < 2; ++f) {
    REQUIRE(group.verdicts[f].size() == 3);
    for (std::size_t g = 0; g < 3; ++g) CHECK(group.verdicts[f][g].value == expected[f][g]);
  }
}

TEST_CASE("a function that throws leaves a verdict without a value, and the others judged") {
  const auto scorer = make_local_scorer(std::vector<RewardFunction>{{"shaky", throws_on_empty}});
  const GroupVerdicts group = scorer->score({"q", "sad", {"a", "", "odd", "b"}});
  const std::vector<Verdict>& verdicts = group.verdicts.at(0);
  CHECK(verdicts[0].value == 0.5);
  CHECK_FALSE(verdicts[1].value.has_value());
  CHECK(verdicts[1].reason == "exception");
  CHECK_FALSE(verdicts[2].value.has_value());
  CHECK(verdicts[3].value == 0.5);
}

TEST_CASE("a scorer without functions, with an unknown one or with one twice is refused") {
  for (const std::vector<std::string>& names :
       {std::vector<std::string>{}, std::vector<std::string>{"humour"},
        std::vector<std::string>{"format", "format"}}) {
    try {
      make_local_scorer(names);
      FAIL("not refused");
    } catch (const Error& error) {
      CHECK(error.code() == ErrorCode::kConfig);
    }
  }
}

TEST_CASE("one scorer serves many threads") {
  const auto scorer = make_local_scorer(std::vector<std::string>{"accuracy", "format"});
  std::vector<int> right(4, 0);
  {
    std::vector<std::jthread> threads;
    for (std::size_t t = 0; t < right.size(); ++t) {
      threads.emplace_back([&, t] {
        for (int i = 0; i < 200; ++i) {
          const auto group = scorer->score({"q", "sad", {"<answer>sad</answer>", "<answer>fear</answer>"}});
          right[t] += group.verdicts[0][0].value == 1.0 && group.verdicts[0][1].value == 0.0 ? 1 : 0;
        }
      });
    }
  }
  for (const int count : right) CHECK(count == 200);
}

}  // namespace ferro
