#include "core/keyed_random.h"

#include <cmath>
#include <cstring>
#include <set>
#include <tuple>
#include <vector>

#include <catch2/catch.hpp>

namespace ferro {
namespace {

using Words = std::array<std::uint32_t, 4>;

std::vector<std::uint32_t> draws(KeyedRandom random, int count) {
  std::vector<std::uint32_t> values;
  for (int i = 0; i < count; ++i) values.push_back(random.next_u32());
  return values;
}

}  // namespace

// The vectors of Random123's tests/kat_vectors for philox4x32-10.
TEST_CASE("philox4x32-10 gives its published test vectors") {
  CHECK(philox4x32({0, 0, 0, 0}, {0, 0}) == Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}) ==
        Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
        Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("a draw is a pure function of its key") {
  const KeyedRandom first(7, RandomPurpose::kTest, {1, 2, 3});
  KeyedRandom interleaved(7, RandomPurpose::kTest, {1, 2, 3});
  const std::vector<std::uint32_t> expected = draws(first, 100);
  KeyedRandom other(7, RandomPurpose::kTest, {9});
  for (const std::uint32_t value : expected) {
    other.next_u32();
    REQUIRE(interleaved.next_u32() == value);
  }
}

TEST_CASE("seed, purpose, order and number of coordinates each give another stream") {
  std::set<std::vector<std::uint32_t>> streams;
  streams.insert(draws({0, RandomPurpose::kTest, {}}, 8));
  streams.insert(draws({1, RandomPurpose::kTest, {}}, 8));
  streams.insert(draws({0, RandomPurpose::kFaces, {}}, 8));
  streams.insert(draws({0, RandomPurpose::kTest, {0}}, 8));
  streams.insert(draws({0, RandomPurpose::kTest, {0, 0}}, 8));
  streams.insert(draws({0, RandomPurpose::kTest, {1, 0}}, 8));
  streams.insert(draws({0, RandomPurpose::kTest, {0, 1}}, 8));
  streams.insert(draws({0, RandomPurpose::kTest, {1}}, 8));
  streams.insert(draws({0, RandomPurpose::kTest, {std::uint64_t{1} << 32}}, 8));
  streams.insert(draws({std::uint64_t{1} << 32, RandomPurpose::kTest, {}}, 8));
  CHECK(streams.size() == 10);
}

TEST_CASE("streams of nearby keys never share a block") {
  // 50 x 50 x 4 keys with 8 blocks of 128 bits each: a shared block would be a shared stream, since a chance
  // collision has a probability of about 80000^2 / 2^129.
  std::set<Words> blocks;
  std::size_t drawn = 0;
  for (std::uint64_t seed = 0; seed < 4; ++seed)
    for (std::uint64_t sample = 0; sample < 50; ++sample)
      for (std::uint64_t position = 0; position < 50; ++position) {
        KeyedRandom random(seed, RandomPurpose::kSampling, {sample, 0, 0, position});
        for (int block = 0; block < 8; ++block, ++drawn) {
          Words words{};
          for (std::uint32_t& word : words) word = random.next_u32();
          blocks.insert(words);
        }
      }
  CHECK(blocks.size() == drawn);
}

TEST_CASE("the first draws of neighbouring coordinates look independent") {
  // Mean of n uniform draws: sd sqrt(1/12/n); correlation of neighbours: sd 1/sqrt(n). Bounds at 5 sd; the
  // draws are fixed.
  constexpr int kCount = 100'000;
  double sum = 0.0, product = 0.0, previous = 0.5;
  for (int i = 0; i < kCount; ++i) {
    const double value = KeyedRandom(0, RandomPurpose::kSampling, {static_cast<std::uint64_t>(i)}).uniform();
    sum += value;
    product += (value - 0.5) * (previous - 0.5) * 12.0;
    previous = value;
  }
  CHECK(std::abs(sum / kCount - 0.5) < 5.0 * std::sqrt(1.0 / 12.0 / kCount));
  CHECK(std::abs(product / kCount) < 5.0 / std::sqrt(kCount));
}

TEST_CASE("uniform draws fill the half-open interval with 53 bits") {
  KeyedRandom random(3, RandomPurpose::kTest, {});
  double smallest = 1.0, largest = 0.0;
  bool fine_bits = false;
  for (int i = 0; i < 100'000; ++i) {
    const double value = random.uniform();
    smallest = std::min(smallest, value);
    largest = std::max(largest, value);
    REQUIRE(value * 0x1p53 == std::floor(value * 0x1p53));
    fine_bits = fine_bits || std::fmod(value * 0x1p53, 2.0) != 0.0;
  }
  CHECK(smallest >= 0.0);
  CHECK(smallest < 1e-3);
  CHECK(largest < 1.0);
  CHECK(largest > 1.0 - 1e-3);
  CHECK(fine_bits);
}

TEST_CASE("a uniform draw never reaches the upper end, even of the narrowest interval") {
  const double low = 1.0, high = std::nextafter(1.0, 2.0);
  KeyedRandom random(3, RandomPurpose::kTest, {1});
  for (int i = 0; i < 1000; ++i) REQUIRE(random.uniform(low, high) == low);
}

TEST_CASE("below(n) is unbiased and stays below n") {
  KeyedRandom random(5, RandomPurpose::kTest, {});
  constexpr int kSides = 6, kCount = 60'000;
  std::array<int, kSides> counts{};
  for (int i = 0; i < kCount; ++i) ++counts.at(random.below(kSides));
  // Chi-square with 5 degrees of freedom: the 99.999 % point is 30.9. The draws are fixed.
  double chi_square = 0.0;
  for (const int count : counts) chi_square += std::pow(count - kCount / kSides, 2) / (kCount / kSides);
  CHECK(chi_square < 30.9);
  CHECK(random.below(1) == 0);
  // 3 * 2^62 is where a plain remainder or a plain product would give the lower third twice the chance.
  const std::uint64_t wide = std::uint64_t{3} << 62;
  int lower_third = 0;
  for (int i = 0; i < 30'000; ++i) {
    const std::uint64_t value = random.below(wide);
    REQUIRE(value < wide);
    lower_third += value < (std::uint64_t{1} << 62) ? 1 : 0;
  }
  CHECK(std::abs(lower_third - 10'000) < 5 * 82);  // sd sqrt(30000 * 1/3 * 2/3) = 82
}

TEST_CASE("normal draws have the moments of the normal distribution") {
  KeyedRandom random(11, RandomPurpose::kTest, {});
  constexpr int kCount = 200'000;
  double sum = 0.0, squares = 0.0, fourth = 0.0;
  for (int i = 0; i < kCount; ++i) {
    const double value = random.normal();
    REQUIRE(std::isfinite(value));
    sum += value;
    squares += value * value;
    fourth += std::pow(value, 4);
  }
  // Standard deviations of the sample moments: 1/sqrt(n), sqrt(2/n), sqrt(96/n). Bounds at 5 sd.
  CHECK(std::abs(sum / kCount) < 5.0 / std::sqrt(kCount));
  CHECK(std::abs(squares / kCount - 1.0) < 5.0 * std::sqrt(2.0 / kCount));
  CHECK(std::abs(fourth / kCount - 3.0) < 5.0 * std::sqrt(96.0 / kCount));
}

TEST_CASE("a name's coordinate depends on each of its bytes") {
  const auto of = [](const char* text) { return coordinate_of(text, std::strlen(text)); };
  CHECK(of("model.layers.0") == of("model.layers.0"));
  CHECK(std::set<std::uint64_t>{of(""), of("a"), of("b"), of("ab"), of("ba"), of("aa")}.size() == 6);
}

TEST_CASE("a long row of normal draws is that of single draws, whichever part is drawn") {
  const KeyedRandom row(3, RandomPurpose::kTest, {5});
  KeyedRandom single(3, RandomPurpose::kTest, {5});
  std::vector<float> whole(5000);
  row.fill_normals(0, 0.25, whole);
  for (const float value : whole) {
    const auto expected = static_cast<float>(0.25 * single.normal());
    REQUIRE(std::abs(value - expected) <= std::abs(expected) * 0x1p-23F);  // Neighbours at most.
  }
  std::vector<float> part(1111);
  row.fill_normals(777, 0.25, part);
  CHECK(std::equal(part.begin(), part.end(), whole.begin() + 777));
  // Past 2^32 blocks the counter's second word counts on.
  std::vector<float> late(3), later(1);
  row.fill_normals((std::uint64_t{1} << 32) - 1, 1.0, late);
  row.fill_normals(std::uint64_t{1} << 32, 1.0, later);
  CHECK(late[1] == later[0]);
  CHECK(late[1] != whole[0] * 4);
}

// Bits as drawn on an AVX-512 processor; the AVX2 and portable bodies gave the same. A difference changes
// every model that `ferro model init` makes.
TEST_CASE("a row of normal draws has the same bits on every processor") {
  std::vector<float> row(100'000);
  KeyedRandom(1, RandomPurpose::kTest, {2}).fill_normals(0, 1.0, row);
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const float value : row) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, &value, sizeof bits);
    hash = (hash ^ bits) * 0x100000001b3;
  }
  CHECK(hash == 0x6ebc9d26b6ced7b8);
}

}  // namespace ferro
