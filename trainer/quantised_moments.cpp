#include "trainer/quantised_moments.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <vector>

#include "core/keyed_random.h"

namespace ferro {
namespace {

/// Magnitudes of a code, ascending, and where a float's search among them begins.
class DynamicCode {
 public:
  /// `first_decade`: values in the lowest decade; each next one has twice as many.
  explicit DynamicCode(int first_decade) {
    values_.push_back(0);
    for (int decade = 0; decade < 7; ++decade) {
      const int count = first_decade << decade;
      for (int k = 1; k <= count; ++k)
        values_.push_back(static_cast<float>(std::pow(10.0, decade - 6) * (0.1 + 0.9 * k / count)));
    }
    values_.back() = 1;
    // A cell is the floats that share exponent and seven leading digits: at most one code lies inside it.
    for (std::uint32_t cell = kFirstCell; cell <= kLastCell; ++cell) {
      const float low = std::bit_cast<float>(cell << 16);
      const auto above = std::upper_bound(values_.begin(), values_.end(), low);
      below_.push_back(static_cast<std::uint8_t>(above - values_.begin() - 1));
    }
    values_.push_back(2);  // Above the last code, so that a search may look one further.
  }

  float value(std::size_t code) const { return values_[code]; }

  /// The code of `magnitude` in [0, 1], rounded up with the probability of its fraction: when that is above
  /// `uniform` in [0, 1).
  std::uint32_t round(float magnitude, float uniform) const {
    const std::uint32_t cell = std::bit_cast<std::uint32_t>(magnitude) >> 16;
    std::uint32_t code = cell < kFirstCell ? 0 : below_[std::min(cell, kLastCell) - kFirstCell];
    code += magnitude >= values_[code + 1] ? 1U : 0U;
    const float low = values_[code], fraction = (magnitude - low) / (values_[code + 1] - low);
    return code + (fraction > uniform ? 1U : 0U);
  }

 private:
  static constexpr std::uint32_t kFirstCell = 0x3300;  // 2^-25, below the smallest code.
  static constexpr std::uint32_t kLastCell = 0x3f80;   // 1
  std::vector<float> values_;
  std::vector<std::uint8_t> below_;
};

const DynamicCode& first_code() {
  static const DynamicCode kCode(1);
  return kCode;
}
const DynamicCode& second_code() {
  static const DynamicCode kCode(2);
  return kCode;
}

constexpr std::uint32_t kSign = 0x80;

void read_first(const std::uint8_t* codes, float scale, std::int64_t size, float* out) {
  const DynamicCode& code = first_code();
  for (std::int64_t i = 0; i < size; ++i) {
    const float magnitude = code.value(codes[i] & (kSign - 1)) * scale;
    out[i] = (codes[i] & kSign) != 0 ? -magnitude : magnitude;
  }
}

void read_second(const std::uint8_t* codes, float scale, std::int64_t size, float* out) {
  const DynamicCode& code = second_code();
  for (std::int64_t i = 0; i < size; ++i) out[i] = code.value(codes[i]) * scale;
}

float largest_magnitude(const float* values, std::int64_t size) {
  float largest = 0;
  for (std::int64_t i = 0; i < size; ++i) largest = std::max(largest, std::abs(values[i]));
  return largest;
}

/// 16 random bits as a number in (0, 1): never 0, so that a value which a code hits exactly stays.
float as_uniform(std::uint32_t bits) {
  return (static_cast<float>(bits & 0xffff) + 0.5F) * 0x1p-16F;
}

struct BlockValues {
  std::array<float, kQuantisedBlock> first, second;
};

void write_block(const BlockValues& values, std::int64_t size, const QuantisedMoments& to,
                 const RoundingKey& rounding, std::int64_t first_element) {
  const float first_scale = largest_magnitude(values.first.data(), size),
              second_scale = largest_magnitude(values.second.data(), size);
  *to.first_scale = first_scale;
  *to.second_scale = second_scale;
  const float first_inverse = first_scale > 0 ? 1 / first_scale : 0,
              second_inverse = second_scale > 0 ? 1 / second_scale : 0;
  for (std::int64_t begin = 0; begin < size; begin += 4) {
    const auto counter = static_cast<std::uint64_t>(first_element + begin) / 4;
    const std::array<std::uint32_t, 4> bits =
        philox4x32({static_cast<std::uint32_t>(counter), static_cast<std::uint32_t>(counter >> 32),
                    rounding.stream[0], rounding.stream[1]},
                   {rounding.key[0], rounding.key[1]});
    for (std::int64_t i = begin; i < std::min(size, begin + 4); ++i) {
      const std::uint32_t draw = bits[static_cast<std::size_t>(i - begin)];
      const auto at = static_cast<std::size_t>(i);
      const float first = values.first[at], second = values.second[at];
      const float first_magnitude = std::min(std::abs(first) * first_inverse, 1.0F),
                  second_magnitude = std::min(second * second_inverse, 1.0F);
      std::uint32_t code = first_code().round(first_magnitude, as_uniform(draw));
      if (first < 0) code |= kSign;
      to.first[i] = static_cast<std::uint8_t>(code);
      code = second_code().round(second_magnitude, as_uniform(draw >> 16));
      to.second[i] = static_cast<std::uint8_t>(code == 0 && second > 0 ? 1U : code);
    }
  }
}

}  // namespace

RoundingKey rounding_key(std::uint64_t seed, std::int64_t step) {
  KeyedRandom random(seed, RandomPurpose::kRounding, {static_cast<std::uint64_t>(step)});
  RoundingKey key{};
  for (std::uint32_t& word : key.key) word = random.next_u32();
  for (std::uint32_t& word : key.stream) word = random.next_u32();
  return key;
}

void adamw_update_quantised(float* weight, const float* gradient, const QuantisedMoments& moments,
                            std::int64_t size, const AdamWFactors& factors, const RoundingKey& rounding,
                            std::int64_t first_element) {
  BlockValues values;
  for (std::int64_t begin = 0; begin < size; begin += kQuantisedBlock) {
    const std::int64_t count = std::min(kQuantisedBlock, size - begin), block = begin / kQuantisedBlock;
    const QuantisedMoments own{moments.first + begin, moments.second + begin, moments.first_scale + block,
                               moments.second_scale + block};
    read_first(own.first, *own.first_scale, count, values.first.data());
    read_second(own.second, *own.second_scale, count, values.second.data());
    adamw_update({weight + begin, gradient + begin, values.first.data(), values.second.data()}, count,
                 factors);
    write_block(values, count, own, rounding, first_element + begin);
  }
}

void read_first_moment(const QuantisedMoments& moments, std::int64_t size, float* out) {
  for (std::int64_t at = 0; at < size; at += kQuantisedBlock)
    read_first(moments.first + at, moments.first_scale[at / kQuantisedBlock],
               std::min(kQuantisedBlock, size - at), out + at);
}

void read_second_moment(const QuantisedMoments& moments, std::int64_t size, float* out) {
  for (std::int64_t at = 0; at < size; at += kQuantisedBlock)
    read_second(moments.second + at, moments.second_scale[at / kQuantisedBlock],
                std::min(kQuantisedBlock, size - at), out + at);
}

}  // namespace ferro
