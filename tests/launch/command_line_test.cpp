#include <array>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "core/error.h"
#include "core/nearest_word.h"
#include "launch/cli.h"
#include "tests/core/expect_error.h"

namespace ferro {
namespace {

using testing::expect_error;

TEST_CASE("the nearest word is the one with the fewest edits, if few enough") {
  const std::vector<std::string> words{"train", "eval", "generate", "score"};
  CHECK(nearest_word("trian", words) == "train");       // One swap.
  CHECK(nearest_word("generat", words) == "generate");  // One insertion.
  CHECK(nearest_word("scroe", words) == "score");
  CHECK_FALSE(nearest_word("distribute", words).has_value());
  CHECK_FALSE(nearest_word("train", {}).has_value());
}

TEST_CASE("a wrong command line returns the usage code") {
  CHECK(run_command_line({"trian"}) == 64);
  CHECK(run_command_line({}) == 64);
  CHECK(run_command_line({"train"}) == 64);
  CHECK(run_command_line({"config", "show", "x.yaml", "--as", "dpo"}) == 64);
  CHECK(run_command_line({"data", "faces", "--out", "x", "--count", "-3"}) == 64);
}

TEST_CASE("what a command throws passes through") {
  expect_error(ErrorCode::kIo,
               [] {
                 run_command_line({"config", "check", "/no/such.yaml"});
               },
               {"/no/such.yaml"});
}

}  // namespace
}  // namespace ferro
