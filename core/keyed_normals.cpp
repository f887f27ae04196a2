#include <algorithm>
#include <bit>
#include <cmath>
#include <numbers>

#include "core/keyed_random.h"

// Box-Muller over whole rows of Philox blocks, written so that the compiler turns it into vectors. One body
// is compiled per instruction set and chosen by what the processor can do. It only adds, multiplies, divides
// and takes square roots, in a fixed order and without fused operations, so that its bits are the same
// everywhere.

#if defined(__x86_64__)
#define FERRO_TARGET_AVX512 __attribute__((target("avx512f,avx512vl,avx512dq,prefer-vector-width=512")))
#define FERRO_TARGET_AVX2 __attribute__((target("avx2")))
#endif
#define FERRO_INLINE __attribute__((always_inline)) inline

namespace ferro {
namespace {

using Key = std::array<std::uint32_t, 2>;
using Counter = std::array<std::uint32_t, 4>;

constexpr std::size_t kLanes = 64;

/// Four words of each block, the 32 bits in 64-bit lanes.
struct Blocks {
  std::uint64_t word[4][kLanes];
};

FERRO_INLINE void philox_blocks(std::uint64_t first, const Counter& stream, Key key, Blocks& blocks) {
  constexpr std::uint64_t kMultiplier0 = 0xd2511f53, kMultiplier1 = 0xcd9e8d57, kLow = 0xffffffff;
  constexpr std::uint32_t kWeyl0 = 0x9e3779b9, kWeyl1 = 0xbb67ae85;
  for (std::size_t i = 0; i < kLanes; ++i) {
    const std::uint64_t block = first + i;
    blocks.word[0][i] = block & kLow;
    blocks.word[1][i] = block >> 32;
    blocks.word[2][i] = stream[2];
    blocks.word[3][i] = stream[3];
  }
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t key0 = key[0], key1 = key[1];
    for (std::size_t i = 0; i < kLanes; ++i) {
      const std::uint64_t product0 = kMultiplier0 * blocks.word[0][i],
                          product1 = kMultiplier1 * blocks.word[2][i];
      blocks.word[0][i] = (product1 >> 32) ^ blocks.word[1][i] ^ key0;
      blocks.word[1][i] = product1 & kLow;
      blocks.word[2][i] = (product0 >> 32) ^ blocks.word[3][i] ^ key1;
      blocks.word[3][i] = product0 & kLow;
    }
    key = {key[0] + kWeyl0, key[1] + kWeyl1};
  }
}

/// An integer below 2^52 as a double, by its bits.
FERRO_INLINE double as_double(std::uint64_t integer) {
  constexpr double kTwo52 = 0x1p52;
  return std::bit_cast<double>(std::bit_cast<std::uint64_t>(kTwo52) | integer) - kTwo52;
}

/// KeyedRandom::uniform() of two words: 53 bits in [0, 1). Both terms are exact, and so is their sum.
FERRO_INLINE double uniform_of(std::uint64_t first, std::uint64_t second) {
  return as_double(first >> 5) * 0x1p-27 + as_double(second >> 6) * 0x1p-53;
}

/// Natural logarithm of x in [2^-53, 1]: x = 2^e m with m in [sqrt(1/2), sqrt(2)), and
/// log m = 2 artanh(s) = 2 (s + s^3 / 3 + s^5 / 5 + ...) with s = (m - 1) / (m + 1), |s| < 0.1716.
/// The terms after s^21 / 21 are below 2^-57 of the sum.
FERRO_INLINE double log_of(double x) {
  constexpr double kLn2High = 0x1.62e42fee00000p-1, kLn2Low = 0x1.a39ef35793c76p-33;  // Their sum is ln 2.
  const auto bits = std::bit_cast<std::uint64_t>(x);
  const double mantissa = std::bit_cast<double>((bits & 0x000fffffffffffff) | 0x3ff0000000000000);
  const bool large = mantissa > std::numbers::sqrt2;
  const double exponent = as_double(bits >> 52) - (large ? 1022.0 : 1023.0);
  const double m = large ? mantissa * 0.5 : mantissa;
  const double s = (m - 1.0) / (m + 1.0), z = s * s;
  double series = 1.0 / 21.0;
  series = series * z + 1.0 / 19.0;
  series = series * z + 1.0 / 17.0;
  series = series * z + 1.0 / 15.0;
  series = series * z + 1.0 / 13.0;
  series = series * z + 1.0 / 11.0;
  series = series * z + 1.0 / 9.0;
  series = series * z + 1.0 / 7.0;
  series = series * z + 1.0 / 5.0;
  series = series * z + 1.0 / 3.0;
  return exponent * kLn2High + (2.0 * s + (2.0 * s * z * series + exponent * kLn2Low));
}

/// cos(2 pi u) for u in [0, 1): u = k / 4 + r with |r| <= 1 / 8, exact, and the Taylor series of sine and
/// cosine at 2 pi r, whose first omitted terms are below 2^-57.
FERRO_INLINE double cosine_of_turns(double u) {
  constexpr double kTwo52 = 0x1p52;
  const double quarter = (4.0 * u + kTwo52) - kTwo52;  // Rounded to an integer.
  const double angle = 2.0 * std::numbers::pi * (u - 0.25 * quarter), z = angle * angle;
  double cosine = -1.0 / 6402373705728000.0;  // 1 / 18!
  cosine = cosine * z + 1.0 / 20922789888000.0;
  cosine = cosine * z - 1.0 / 87178291200.0;
  cosine = cosine * z + 1.0 / 479001600.0;
  cosine = cosine * z - 1.0 / 3628800.0;
  cosine = cosine * z + 1.0 / 40320.0;
  cosine = cosine * z - 1.0 / 720.0;
  cosine = cosine * z + 1.0 / 24.0;
  cosine = 1.0 - 0.5 * z + z * z * cosine;
  double sine = 1.0 / 355687428096000.0;  // 1 / 17!
  sine = sine * z - 1.0 / 1307674368000.0;
  sine = sine * z + 1.0 / 6227020800.0;
  sine = sine * z - 1.0 / 39916800.0;
  sine = sine * z + 1.0 / 362880.0;
  sine = sine * z - 1.0 / 5040.0;
  sine = sine * z + 1.0 / 120.0;
  sine = sine * z - 1.0 / 6.0;
  sine = angle + angle * z * sine;
  const bool odd = quarter == 1.0 || quarter == 3.0, negative = quarter == 1.0 || quarter == 2.0;
  const double value = odd ? sine : cosine;
  return negative ? -value : value;
}

FERRO_INLINE void fill(std::uint64_t first, const Counter& stream, const Key& key, double deviation,
                       std::span<float> out) {
  Blocks blocks;
  float values[kLanes];
  for (std::size_t begin = 0; begin < out.size(); begin += kLanes) {
    philox_blocks(first + begin, stream, key, blocks);
    for (std::size_t i = 0; i < kLanes; ++i) {
      const double radius =
          __builtin_sqrt(-2.0 * log_of(1.0 - uniform_of(blocks.word[0][i], blocks.word[1][i])));
      values[i] = static_cast<float>(
          deviation * (radius * cosine_of_turns(uniform_of(blocks.word[2][i], blocks.word[3][i]))));
    }
    std::copy_n(values, std::min(kLanes, out.size() - begin),
                out.begin() + static_cast<std::ptrdiff_t>(begin));
  }
}

using Fill = void (*)(std::uint64_t, const Counter&, const Key&, double, std::span<float>);

void fill_portable(std::uint64_t first, const Counter& stream, const Key& key, double deviation,
                   std::span<float> out) {
  fill(first, stream, key, deviation, out);
}

#if defined(__x86_64__)
FERRO_TARGET_AVX512 void fill_avx512(std::uint64_t first, const Counter& stream, const Key& key,
                                     double deviation, std::span<float> out) {
  fill(first, stream, key, deviation, out);
}
FERRO_TARGET_AVX2 void fill_avx2(std::uint64_t first, const Counter& stream, const Key& key, double deviation,
                                 std::span<float> out) {
  fill(first, stream, key, deviation, out);
}
#endif

Fill best_fill() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq"))
    return fill_avx512;
  if (__builtin_cpu_supports("avx2")) return fill_avx2;
#endif
  return fill_portable;
}

}  // namespace

void KeyedRandom::fill_normals(std::uint64_t first, double deviation, std::span<float> out) const {
  static const Fill chosen = best_fill();
  chosen(first, counter_, key_, deviation, out);
}

}  // namespace ferro
