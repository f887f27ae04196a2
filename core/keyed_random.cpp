#include "core/keyed_random.h"

#include <cmath>
#include <numbers>

#include "core/error.h"

namespace ferro {
namespace {

constexpr std::uint64_t kGolden = 0x9e3779b97f4a7c15;  // 2^64 / golden ratio, odd

/// The finaliser of splitmix64 (Stafford's variant 13): a bijection in which every input bit moves every
/// output bit.
constexpr std::uint64_t finalise(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

/// Each step is a bijection of the state for a given coordinate, and the position is mixed in, so that (1,
/// 2), (2, 1), (1, 2, 0) differ. Two salts give two independent 64-bit names of one stream.
std::uint64_t chain(std::uint64_t salt, std::uint64_t seed, RandomPurpose purpose,
                    std::initializer_list<std::uint64_t> coordinates) {
  std::uint64_t state = finalise(salt ^ finalise(seed + kGolden));
  state = finalise(state ^ finalise(static_cast<std::uint64_t>(purpose) + 2 * kGolden));
  std::uint64_t position = 2 * kGolden;
  for (const std::uint64_t coordinate : coordinates) {
    position += kGolden;
    state = finalise(state + position) ^ finalise(coordinate ^ salt);
    state = finalise(state);
  }
  return finalise(state ^ (static_cast<std::uint64_t>(coordinates.size()) * kGolden));
}

constexpr std::uint32_t low(std::uint64_t x) {
  return static_cast<std::uint32_t>(x);
}
constexpr std::uint32_t high(std::uint64_t x) {
  return static_cast<std::uint32_t>(x >> 32);
}

}  // namespace

std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter,
                                        std::array<std::uint32_t, 2> key) {
  constexpr std::uint64_t kMultiplier0 = 0xd2511f53, kMultiplier1 = 0xcd9e8d57;
  constexpr std::uint32_t kWeyl0 = 0x9e3779b9, kWeyl1 = 0xbb67ae85;
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = kMultiplier0 * counter[0];
    const std::uint64_t product1 = kMultiplier1 * counter[2];
    counter = {high(product1) ^ counter[1] ^ key[0], low(product1), high(product0) ^ counter[3] ^ key[1],
               low(product0)};
    key[0] += kWeyl0;
    key[1] += kWeyl1;
  }
  return counter;
}

KeyedRandom::KeyedRandom(std::uint64_t seed, RandomPurpose purpose,
                         std::initializer_list<std::uint64_t> coordinates) {
  const std::uint64_t key = chain(0x6a09e667f3bcc908, seed, purpose, coordinates);
  const std::uint64_t stream = chain(0xbb67ae8584caa73b, seed, purpose, coordinates);
  key_ = {low(key), high(key)};
  counter_ = {0, 0, low(stream), high(stream)};  // The first two words count blocks.
}

std::uint32_t KeyedRandom::next_u32() {
  if (used_ == 4) {
    block_ = philox4x32(counter_, key_);
    if (++counter_[0] == 0) ++counter_[1];
    used_ = 0;
  }
  return block_[static_cast<std::size_t>(used_++)];
}

double KeyedRandom::uniform() {
  const std::uint64_t upper = next_u32() >> 5, lower = next_u32() >> 6;
  return static_cast<double>((upper << 26) | lower) * 0x1p-53;
}

double KeyedRandom::uniform(double low, double high) {
  const double value = low + (high - low) * uniform();
  // Rounding may reach `high`; the interval stays half open.
  return value < high || !(low < high) ? value : std::nextafter(high, low);
}

std::uint64_t KeyedRandom::below(std::uint64_t n) {
  FERRO_CHECK(n > 0, "below({})", n);
  // Lemire, "Fast Random Integer Generation in an Interval" (2019).
  using Wide = unsigned __int128;
  const std::uint64_t threshold = (0 - n) % n;
  while (true) {
    const std::uint64_t upper = next_u32(), lower = next_u32();
    const Wide product = static_cast<Wide>((upper << 32) | lower) * n;
    if (static_cast<std::uint64_t>(product) >= threshold) return static_cast<std::uint64_t>(product >> 64);
  }
}

double KeyedRandom::normal() {
  const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform()));  // 1 - u is in (0, 1]
  return radius * std::cos(2.0 * std::numbers::pi * uniform());
}

std::uint64_t coordinate_of(const char* text, std::size_t length) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (std::size_t i = 0; i < length; ++i)
    hash = (hash ^ static_cast<unsigned char>(text[i])) * 0x100000001b3;
  return finalise(hash);
}

}  // namespace ferro
