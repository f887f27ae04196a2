#include "reward/reward_wire.h"

#include <catch2/catch.hpp>

#include "tests/reward/service_fixture.h"

namespace ferro::testing {
namespace {

const ScoreRequest kRequest{"q", "s", {"a", "b"}, "7"};

v1::ScoreGroupResponse answer() {
  const GroupVerdicts verdicts{
      {{{1.0, "ok"}, {std::nullopt, "exception"}}, {{0.0, "bad_format"}, {-0.0, "ok"}}}};
  v1::ScoreGroupResponse response;
  REQUIRE(response.ParseFromString(encode_verdicts("7", kBoth, verdicts)));
  return response;
}

std::string why_not(const v1::ScoreGroupResponse& response) {
  std::string why;
  CHECK_FALSE(verdicts_of(response, kRequest, kBoth, why).has_value());
  return why;
}

}  // namespace

TEST_CASE("verdicts of another group, of other functions or on too few answers are not taken") {
  std::string why;
  REQUIRE(verdicts_of(answer(), kRequest, kBoth, why));
  v1::ScoreGroupResponse response = answer();
  response.set_key("8");
  CHECK_THAT(why_not(response), Catch::Contains("another group"));
  response = answer();
  response.mutable_functions(1)->set_function("humour");
  CHECK_THAT(why_not(response), Catch::Contains("format"));
  response = answer();
  response.mutable_functions()->RemoveLast();
  CHECK_THAT(why_not(response), Catch::Contains("1 functions"));
  response = answer();
  response.mutable_functions(0)->mutable_verdicts()->RemoveLast();
  CHECK_THAT(why_not(response), Catch::Contains("accuracy"));
}

TEST_CASE("a request comes out of its bytes as it went in, and no cut of them is taken for another") {
  const ScoreRequest request{std::string("q\0\xFF", 3), "", {"", "a", std::string("\0", 1)}, "key"};
  const std::string bytes = to_wire(request).SerializeAsString();
  std::string why;
  const auto back = decode_score_request(bytes, 3, why);
  REQUIRE(back);
  CHECK(back->question == request.question);
  CHECK(back->solution == request.solution);
  CHECK(back->completions == request.completions);
  CHECK(back->key == request.key);
  CHECK_FALSE(decode_score_request(bytes, 2, why));
  CHECK_THAT(why, Catch::Contains("3 completions, at most 2"));
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    const auto cut = decode_score_request(bytes.substr(0, length), 3, why);
    // A cut between two fields is a shorter request.
    CHECK((!cut || to_wire(*cut).SerializeAsString() == bytes.substr(0, length)));
  }
}

}  // namespace ferro::testing
