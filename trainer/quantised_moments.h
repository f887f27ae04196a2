#pragma once

#include <cstdint>

#include "trainer/adamw_kernel.h"

namespace ferro {

// Moments of AdamW in 8 bits: block-wise dynamic quantisation (Dettmers et al., "8-bit Optimizers via
// Block-wise Quantization", ICLR 2022, arXiv:2110.02861) with stochastic rounding.
//
// A block of 256 elements shares one scale, its largest magnitude. A code's value, times the scale, is 0 or
//   10^(e - 6) * (0.1 + 0.9 k / n_e),  e = 0..6, k = 1..n_e,
// with n_e = 2^e and a sign bit for the first moment (255 values) and n_e = 2^(e + 1) for the second, which
// has no sign (255 values): the larger the magnitude, the more digits, over six decades. The fractions end at
// 1, so that the largest element of a block is exact. A value between two codes goes to one of them with the
// probability that keeps its mean; a second moment that is not 0 never becomes 0, because that would divide
// by epsilon alone.

constexpr std::int64_t kQuantisedBlock = 256;  ///< Elements of a scale.

/// The moments of a range of elements. Blocks begin at the first element.
struct QuantisedMoments {
  std::uint8_t* first;
  std::uint8_t* second;
  float* first_scale;  ///< One per block.
  float* second_scale;
};

/// Keys of a step's rounding; element i of the buffer draws from counter (first_element + i) / 4.
struct RoundingKey {
  std::uint32_t key[2];
  std::uint32_t stream[2];
};
RoundingKey rounding_key(std::uint64_t seed, std::int64_t step);

/// adamw_update on moments that are read from and written back to 8 bits. `first_element` is the range's
/// place in the whole buffer, a multiple of 4.
void adamw_update_quantised(float* weight, const float* gradient, const QuantisedMoments& moments,
                            std::int64_t size, const AdamWFactors& factors, const RoundingKey& rounding,
                            std::int64_t first_element);

/// The values that codes stand for, `size` elements from the beginning of a block.
void read_first_moment(const QuantisedMoments& moments, std::int64_t size, float* out);
void read_second_moment(const QuantisedMoments& moments, std::int64_t size, float* out);

}  // namespace ferro
