#include "data/data_order.h"

#include <algorithm>
#include <set>

#include <catch2/catch.hpp>

#include "core/error.h"

namespace ferro {
namespace {

std::vector<std::int64_t> take(DataOrder& order, int count) {
  std::vector<std::int64_t> rows;
  for (int i = 0; i < count; ++i) rows.push_back(order.next());
  return rows;
}

TEST_CASE("each epoch is a permutation, and epochs differ") {
  DataOrder order(100, 1, true);
  const auto first = take(order, 100);
  const auto second = take(order, 100);
  CHECK(std::set<std::int64_t>(first.begin(), first.end()).size() == 100);
  CHECK(*std::max_element(first.begin(), first.end()) == 99);
  CHECK(std::is_permutation(first.begin(), first.end(), second.begin()));
  CHECK(first != second);
  CHECK_FALSE(std::is_sorted(first.begin(), first.end()));
}

TEST_CASE("a cursor resumes the stream where it stopped, across the epoch's border") {
  DataOrder whole(10, 5, true);
  const auto expected = take(whole, 35);
  for (int stop = 0; stop <= 30; ++stop) {
    DataOrder before(10, 5, true);
    take(before, stop);
    DataOrder after(10, 5, true, before.cursor());
    const auto rest = take(after, 5);
    CHECK(std::equal(rest.begin(), rest.end(), expected.begin() + stop));
    CHECK(after.cursor() == DataCursor{(stop + 4) / 10, (stop + 4) % 10 + 1});
  }
}

TEST_CASE("the seed decides the order, and without shuffling it is the file's") {
  DataOrder a(50, 1, true), b(50, 2, true), plain(3, 1, false);
  CHECK(take(a, 50) != take(b, 50));
  CHECK(take(plain, 4) == std::vector<std::int64_t>{0, 1, 2, 0});
}

TEST_CASE("an empty data set or a cursor outside it is refused") {
  CHECK_THROWS_AS(DataOrder(0, 1, true), Error);
  CHECK_THROWS_WITH(DataOrder(5, 1, true, DataCursor{0, 6}), Catch::Contains("6"));
  CHECK_NOTHROW(DataOrder(5, 1, true, DataCursor{0, 5}));
}

}  // namespace
}  // namespace ferro
