#include "tests/golden.h"

#include <limits>

#include <catch2/catch.hpp>

namespace ferro::testing {
namespace {

TEST_CASE("a NaN is the largest of all differences, wherever it comes, and within no tolerance") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK(worse_of(1, 2) == 2);
  CHECK(worse_of(2, 1) == 2);
  CHECK(std::isnan(worse_of(1, nan)));
  CHECK(std::isnan(worse_of(nan, 1)));
  CHECK(std::isnan(worse_of(nan, std::numeric_limits<double>::infinity())));
  CHECK_FALSE(worse_of(worse_of(0, nan), 1) <= 5);
}

}  // namespace
}  // namespace ferro::testing
