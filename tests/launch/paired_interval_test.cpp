#include <cmath>
#include <cstdint>
#include <vector>

#include <catch2/catch.hpp>

#include "core/error.h"
#include "core/keyed_random.h"
#include "reward/paired_interval.h"
#include "tests/core/expect_error.h"

namespace ferro {
namespace {

TEST_CASE("the difference counts only rows that one of the two has right") {
  // A right on rows 0, 1; B right on rows 1, 2, 3: only_a = {0}, only_b = {2, 3}; difference (3 - 2) / 5.
  const std::vector<std::uint8_t> a{1, 1, 0, 0, 0}, b{0, 1, 1, 1, 0};
  const PairedInterval interval = paired_interval(a, b);
  CHECK(interval.count == 5);
  CHECK(interval.only_a == 1);
  CHECK(interval.only_b == 2);
  CHECK(interval.accuracy_a == Approx(0.4));
  CHECK(interval.accuracy_b == Approx(0.6));
  CHECK(interval.difference == Approx(0.2));
  // Mean square of the differences 3/5, variance .6 - .04 = .56, standard error sqrt(.56 / 5) = .334664.
  CHECK(interval.normal_high - interval.difference == Approx(1.959964 * 0.334664).epsilon(1e-5));
}

TEST_CASE("equal models have an interval of width zero at zero") {
  const std::vector<std::uint8_t> a{1, 0, 1, 1};
  const PairedInterval interval = paired_interval(a, a);
  CHECK(interval.low == 0);
  CHECK(interval.high == 0);
}

TEST_CASE("on many rows the bootstrap agrees with the normal approximation") {
  KeyedRandom random(7, RandomPurpose::kTest, {1});
  std::vector<std::uint8_t> a(2000), b(2000);
  for (std::size_t i = 0; i < a.size(); ++i) {
    a[i] = random.uniform() < 0.40;
    b[i] = random.uniform() < 0.45;
  }
  const PairedInterval interval = paired_interval(a, b);
  // Standard error about sqrt(.49 / 2000) = .0157; an end of a 2,000-replicate percentile interval is good to
  // about a twelfth of it.
  CHECK(std::abs(interval.low - interval.normal_low) < 0.003);
  CHECK(std::abs(interval.high - interval.normal_high) < 0.003);
  CHECK(interval.high - interval.low == Approx(2 * 1.96 * 0.0157).epsilon(0.08));
}

TEST_CASE("the interval is a pure function of rows and seed") {
  const std::vector<std::uint8_t> a{1, 1, 0, 0, 0, 1, 0, 1}, b{0, 1, 1, 1, 0, 1, 1, 0};
  const PairedInterval once = paired_interval(a, b, 3), twice = paired_interval(a, b, 3);
  CHECK(once.low == twice.low);
  CHECK(once.high == twice.high);
}

TEST_CASE("no rows give zeros, and unequal rows are refused") {
  CHECK(paired_interval({}, {}).count == 0);
  const std::vector<std::uint8_t> a{1}, b{1, 0};
  testing::expect_error(ErrorCode::kInternal, [&] { paired_interval(a, b); }, {"1 rows", "2"});
}

}  // namespace
}  // namespace ferro
