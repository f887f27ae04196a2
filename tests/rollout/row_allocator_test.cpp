#include "rollout/row_allocator.h"

#include <vector>

#include <catch2/catch.hpp>

#include "core/error.h"
#include "core/keyed_random.h"

namespace ferro {

TEST_CASE("rows given back next to each other serve a longer region") {
  RowAllocator allocator(10);
  const RowRegion a = allocator.allocate(4).value(), b = allocator.allocate(3).value(),
                  c = allocator.allocate(3).value();
  CHECK_FALSE(allocator.allocate(1).has_value());
  allocator.release(a);
  allocator.release(c);
  CHECK(allocator.free_rows() == 7);
  CHECK_FALSE(allocator.allocate(5).has_value());
  allocator.release(b);
  CHECK(allocator.allocate(10).value().begin == 0);
}

TEST_CASE("a region of no rows always fits and need not be given back") {
  RowAllocator allocator(1);
  const RowRegion all = allocator.allocate(1).value();
  CHECK(allocator.allocate(0).value().rows == 0);
  allocator.release(RowRegion{});
  allocator.release(all);
  CHECK(allocator.free_rows() == 1);
}

TEST_CASE("a region given back twice is found out") {
  RowAllocator allocator(8);
  const RowRegion a = allocator.allocate(2).value(), b = allocator.allocate(2).value();
  allocator.release(a);
  CHECK_THROWS_AS(allocator.release(a), Error);
  allocator.release(b);
  CHECK_THROWS_AS(allocator.release(b), Error);
  CHECK_THROWS_AS(allocator.release(RowRegion{6, 4}), Error);
}

TEST_CASE("regions never overlap and all rows come back") {
  constexpr std::int32_t kCapacity = 97;
  RowAllocator allocator(kCapacity);
  KeyedRandom random(1, RandomPurpose::kTest, {1});
  std::vector<RowRegion> held;
  std::vector<int> owners(kCapacity, 0);
  for (int i = 0; i < 5000; ++i) {
    if (random.below(2) == 0) {
      const auto region = allocator.allocate(static_cast<std::int32_t>(random.below(14)));
      if (!region) continue;
      for (std::int32_t row = region->begin; row < region->end(); ++row)
        REQUIRE(owners[static_cast<std::size_t>(row)]++ == 0);
      held.push_back(*region);
    } else if (!held.empty()) {
      const auto victim = static_cast<std::size_t>(random.below(held.size()));
      for (std::int32_t row = held[victim].begin; row < held[victim].end(); ++row)
        --owners[static_cast<std::size_t>(row)];
      allocator.release(held[victim]);
      held[victim] = held.back();
      held.pop_back();
    }
  }
  for (const RowRegion& region : held) allocator.release(region);
  CHECK(allocator.free_rows() == kCapacity);
  CHECK(allocator.allocate(kCapacity).has_value());
}

}  // namespace ferro
