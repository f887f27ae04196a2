#pragma once

#include "model/kernels/simd.h"

namespace ferro::kernels::FERRO_KERNEL_ISA {

#if defined(__AVX512F__)

/// to[c, r] = from[r, c] for 16 x 16 floats.
FERRO_INLINE void transpose_lanes(const float* from, std::int64_t from_stride, float* to,
                                  std::int64_t to_stride) {
  // Row i of the first step holds the four 128-bit pieces i, i + 4, i + 8, i + 12 of one column group, so
  // that two in-lane shuffles finish the job.
  __m512 piece[4][4];
#pragma GCC unroll 4
  for (int column = 0; column < 4; ++column)
#pragma GCC unroll 4
    for (int row = 0; row < 4; ++row) {
      const float* p = from + row * from_stride + column * 4;
      __m512 v = _mm512_castps128_ps512(_mm_loadu_ps(p));
      v = _mm512_mask_broadcast_f32x4(v, 0x00f0, _mm_loadu_ps(p + 4 * from_stride));
      v = _mm512_mask_broadcast_f32x4(v, 0x0f00, _mm_loadu_ps(p + 8 * from_stride));
      piece[column][row] = _mm512_mask_broadcast_f32x4(v, 0xf000, _mm_loadu_ps(p + 12 * from_stride));
    }
#pragma GCC unroll 4
  for (int column = 0; column < 4; ++column) {
    const __m512 a = _mm512_unpacklo_ps(piece[column][0], piece[column][1]);
    const __m512 b = _mm512_unpackhi_ps(piece[column][0], piece[column][1]);
    const __m512 c = _mm512_unpacklo_ps(piece[column][2], piece[column][3]);
    const __m512 d = _mm512_unpackhi_ps(piece[column][2], piece[column][3]);
    float* out = to + column * 4 * to_stride;
    _mm512_storeu_ps(out, _mm512_shuffle_ps(a, c, 0x44));
    _mm512_storeu_ps(out + to_stride, _mm512_shuffle_ps(a, c, 0xee));
    _mm512_storeu_ps(out + 2 * to_stride, _mm512_shuffle_ps(b, d, 0x44));
    _mm512_storeu_ps(out + 3 * to_stride, _mm512_shuffle_ps(b, d, 0xee));
  }
}

#elif defined(__AVX2__)

FERRO_INLINE void transpose_lanes(const float* from, std::int64_t from_stride, float* to,
                                  std::int64_t to_stride) {
  __m256 piece[2][4];
  for (int column = 0; column < 2; ++column)
    for (int row = 0; row < 4; ++row) {
      const float* p = from + row * from_stride + column * 4;
      piece[column][row] =
          _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(p)), _mm_loadu_ps(p + 4 * from_stride), 1);
    }
  for (int column = 0; column < 2; ++column) {
    const __m256 a = _mm256_unpacklo_ps(piece[column][0], piece[column][1]);
    const __m256 b = _mm256_unpackhi_ps(piece[column][0], piece[column][1]);
    const __m256 c = _mm256_unpacklo_ps(piece[column][2], piece[column][3]);
    const __m256 d = _mm256_unpackhi_ps(piece[column][2], piece[column][3]);
    float* out = to + column * 4 * to_stride;
    _mm256_storeu_ps(out, _mm256_shuffle_ps(a, c, 0x44));
    _mm256_storeu_ps(out + to_stride, _mm256_shuffle_ps(a, c, 0xee));
    _mm256_storeu_ps(out + 2 * to_stride, _mm256_shuffle_ps(b, d, 0x44));
    _mm256_storeu_ps(out + 3 * to_stride, _mm256_shuffle_ps(b, d, 0xee));
  }
}

#else

FERRO_INLINE void transpose_lanes(const float* from, std::int64_t from_stride, float* to,
                                  std::int64_t to_stride) {
  for (int r = 0; r < kLanes; ++r)
    for (int c = 0; c < kLanes; ++c) to[c * to_stride + r] = from[r * from_stride + c];
}

#endif

/// to[c, r] = from[r, c] for kLanes rows of `cols` floats.
static inline void transpose_strip(const float* from, std::int64_t from_stride, std::int64_t cols, float* to,
                                   std::int64_t to_stride) {
  if (cols < kLanes) {
    for (std::int64_t c = 0; c < cols; ++c)
      for (int r = 0; r < kLanes; ++r) to[c * to_stride + r] = from[r * from_stride + c];
    return;
  }
  for (std::int64_t c = 0; c + kLanes <= cols; c += kLanes)
    transpose_lanes(from + c, from_stride, to + c * to_stride, to_stride);
  // The last block overlaps the one before it rather than being narrower.
  if (cols % kLanes != 0)
    transpose_lanes(from + cols - kLanes, from_stride, to + (cols - kLanes) * to_stride, to_stride);
}

/// to[c, r] = from[r, c] for rows x cols floats; rows are filled up with zeros to a multiple of kLanes.
static inline void transpose(const float* from, std::int64_t from_stride, std::int64_t rows,
                             std::int64_t cols, float* to, std::int64_t to_stride) {
  std::int64_t r = 0;
  for (; r + kLanes <= rows; r += kLanes)
    transpose_strip(from + r * from_stride, from_stride, cols, to + r, to_stride);
  if (r == rows) return;
  constexpr std::int64_t kWidth = 64;
  alignas(64) float rest[kLanes * kWidth];
  for (std::int64_t c = 0; c < cols; c += kWidth) {
    const std::int64_t part = cols - c < kWidth ? cols - c : kWidth;
    for (std::int64_t i = 0; i < kLanes; ++i) {
      if (r + i < rows)
        copy_floats(rest + i * kWidth, from + (r + i) * from_stride + c, part);
      else
        zero_floats(rest + i * kWidth, part);
    }
    transpose_strip(rest, kWidth, part, to + c * to_stride + r, to_stride);
  }
}

}  // namespace ferro::kernels::FERRO_KERNEL_ISA
