#pragma once

// One vector type per instruction set. A kernel source is compiled once per set into namespace
// ferro::kernels::FERRO_KERNEL_ISA, so nothing here may be shared between the copies: every function is
// static, and the kernel sources use no templates of the standard library (the linker would keep one copy for
// all processors).

#include <cstdint>
#include <cstring>

#if defined(__AVX512F__)
#include <immintrin.h>
#define FERRO_KERNEL_ISA avx512
#elif defined(__AVX2__)
#include <immintrin.h>
#define FERRO_KERNEL_ISA avx2
#else
#define FERRO_KERNEL_ISA portable
#endif

#define FERRO_INLINE static inline __attribute__((always_inline))

namespace ferro::kernels::FERRO_KERNEL_ISA {

#if defined(__AVX512F__)

constexpr int kLanes = 16;
struct Vec {
  __m512 v;
};
FERRO_INLINE __mmask16 first_lanes(int n) {
  return static_cast<__mmask16>((1u << n) - 1u);
}
FERRO_INLINE Vec zero() {
  return {_mm512_setzero_ps()};
}
FERRO_INLINE Vec broadcast(float x) {
  return {_mm512_set1_ps(x)};
}
FERRO_INLINE Vec load(const float* p) {
  return {_mm512_loadu_ps(p)};
}
/// The first n < kLanes floats, zeros after them; reads nothing else.
FERRO_INLINE Vec load_first(const float* p, int n) {
  return {_mm512_maskz_loadu_ps(first_lanes(n), p)};
}
FERRO_INLINE void store(float* p, Vec a) {
  _mm512_storeu_ps(p, a.v);
}
FERRO_INLINE void store_first(float* p, int n, Vec a) {
  _mm512_mask_storeu_ps(p, first_lanes(n), a.v);
}
FERRO_INLINE Vec keep_first(Vec a, int n, float rest) {
  return {_mm512_mask_blend_ps(first_lanes(n), _mm512_set1_ps(rest), a.v)};
}
FERRO_INLINE Vec operator+(Vec a, Vec b) {
  return {_mm512_add_ps(a.v, b.v)};
}
FERRO_INLINE Vec operator-(Vec a, Vec b) {
  return {_mm512_sub_ps(a.v, b.v)};
}
FERRO_INLINE Vec operator*(Vec a, Vec b) {
  return {_mm512_mul_ps(a.v, b.v)};
}
FERRO_INLINE Vec operator/(Vec a, Vec b) {
  return {_mm512_div_ps(a.v, b.v)};
}
FERRO_INLINE Vec fma(Vec a, Vec b, Vec c) {
  return {_mm512_fmadd_ps(a.v, b.v, c.v)};
}  ///< a * b + c
FERRO_INLINE Vec fnma(Vec a, Vec b, Vec c) {
  return {_mm512_fnmadd_ps(a.v, b.v, c.v)};
}  ///< c - a * b
/// b where either is NaN.
FERRO_INLINE Vec max(Vec a, Vec b) {
  return {_mm512_max_ps(a.v, b.v)};
}
FERRO_INLINE Vec min(Vec a, Vec b) {
  return {_mm512_min_ps(a.v, b.v)};
}
FERRO_INLINE Vec abs(Vec a) {
  return {_mm512_abs_ps(a.v)};
}
FERRO_INLINE Vec round_to_even(Vec a) {
  return {_mm512_roundscale_ps(a.v, 8)};
}
/// a < b ? x : y
FERRO_INLINE Vec select_less(Vec a, Vec b, Vec x, Vec y) {
  return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ), y.v, x.v)};
}
/// a * 2^n for integral n, or 0 where x < lowest.
FERRO_INLINE Vec scale_unless_less(Vec a, Vec n, Vec x, Vec lowest) {
  return {_mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(x.v, lowest.v, _CMP_NLT_UQ), a.v, n.v)};
}
FERRO_INLINE Vec copy_sign(Vec magnitude, Vec sign) {
  const __m512i mask = _mm512_set1_epi32(INT32_MIN);
  return {_mm512_castsi512_ps(_mm512_or_si512(_mm512_andnot_si512(mask, _mm512_castps_si512(magnitude.v)),
                                              _mm512_and_si512(mask, _mm512_castps_si512(sign.v))))};
}

#elif defined(__AVX2__)

constexpr int kLanes = 8;
struct Vec {
  __m256 v;
};
FERRO_INLINE __m256i first_lanes(int n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
FERRO_INLINE Vec zero() {
  return {_mm256_setzero_ps()};
}
FERRO_INLINE Vec broadcast(float x) {
  return {_mm256_set1_ps(x)};
}
FERRO_INLINE Vec load(const float* p) {
  return {_mm256_loadu_ps(p)};
}
FERRO_INLINE Vec load_first(const float* p, int n) {
  return {_mm256_maskload_ps(p, first_lanes(n))};
}
FERRO_INLINE void store(float* p, Vec a) {
  _mm256_storeu_ps(p, a.v);
}
FERRO_INLINE void store_first(float* p, int n, Vec a) {
  _mm256_maskstore_ps(p, first_lanes(n), a.v);
}
FERRO_INLINE Vec keep_first(Vec a, int n, float rest) {
  return {_mm256_blendv_ps(_mm256_set1_ps(rest), a.v, _mm256_castsi256_ps(first_lanes(n)))};
}
FERRO_INLINE Vec operator+(Vec a, Vec b) {
  return {_mm256_add_ps(a.v, b.v)};
}
FERRO_INLINE Vec operator-(Vec a, Vec b) {
  return {_mm256_sub_ps(a.v, b.v)};
}
FERRO_INLINE Vec operator*(Vec a, Vec b) {
  return {_mm256_mul_ps(a.v, b.v)};
}
FERRO_INLINE Vec operator/(Vec a, Vec b) {
  return {_mm256_div_ps(a.v, b.v)};
}
FERRO_INLINE Vec fma(Vec a, Vec b, Vec c) {
  return {_mm256_fmadd_ps(a.v, b.v, c.v)};
}
FERRO_INLINE Vec fnma(Vec a, Vec b, Vec c) {
  return {_mm256_fnmadd_ps(a.v, b.v, c.v)};
}
FERRO_INLINE Vec max(Vec a, Vec b) {
  return {_mm256_max_ps(a.v, b.v)};
}
FERRO_INLINE Vec min(Vec a, Vec b) {
  return {_mm256_min_ps(a.v, b.v)};
}
FERRO_INLINE Vec abs(Vec a) {
  return {_mm256_andnot_ps(_mm256_set1_ps(-0.0f), a.v)};
}
FERRO_INLINE Vec round_to_even(Vec a) {
  return {_mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
FERRO_INLINE Vec select_less(Vec a, Vec b, Vec x, Vec y) {
  return {_mm256_blendv_ps(y.v, x.v, _mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ))};
}
/// As above, for n <= 128.
FERRO_INLINE Vec scale_unless_less(Vec a, Vec n, Vec x, Vec lowest) {
  // In two steps: 2^128 is no float, 2 * 2^127 may be.
  const __m256 half = _mm256_sub_ps(n.v, _mm256_set1_ps(1.0f));
  const __m256i bits =
      _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(half), _mm256_set1_epi32(127)), 23);
  const __m256 scaled = _mm256_mul_ps(_mm256_mul_ps(a.v, _mm256_set1_ps(2.0f)), _mm256_castsi256_ps(bits));
  return {_mm256_and_ps(scaled, _mm256_cmp_ps(x.v, lowest.v, _CMP_NLT_UQ))};
}
FERRO_INLINE Vec copy_sign(Vec magnitude, Vec sign) {
  const __m256 mask = _mm256_set1_ps(-0.0f);
  return {_mm256_or_ps(_mm256_andnot_ps(mask, magnitude.v), _mm256_and_ps(mask, sign.v))};
}

#else

constexpr int kLanes = 8;
struct Vec {
  float v[kLanes];
};
#define FERRO_EACH_LANE(expression)                                     \
  Vec out;                                                              \
  for (int lane = 0; lane < kLanes; ++lane) out.v[lane] = (expression); \
  return out
FERRO_INLINE Vec zero() {
  FERRO_EACH_LANE(0.0f);
}
FERRO_INLINE Vec broadcast(float x) {
  FERRO_EACH_LANE(x);
}
FERRO_INLINE Vec load(const float* p) {
  FERRO_EACH_LANE(p[lane]);
}
FERRO_INLINE Vec load_first(const float* p, int n) {
  FERRO_EACH_LANE(lane < n ? p[lane] : 0.0f);
}
FERRO_INLINE void store(float* p, Vec a) {
  std::memcpy(p, a.v, sizeof a.v);
}
FERRO_INLINE void store_first(float* p, int n, Vec a) {
  std::memcpy(p, a.v, static_cast<std::size_t>(n) * sizeof(float));
}
FERRO_INLINE Vec keep_first(Vec a, int n, float rest) {
  FERRO_EACH_LANE(lane < n ? a.v[lane] : rest);
}
FERRO_INLINE Vec operator+(Vec a, Vec b) {
  FERRO_EACH_LANE(a.v[lane] + b.v[lane]);
}
FERRO_INLINE Vec operator-(Vec a, Vec b) {
  FERRO_EACH_LANE(a.v[lane] - b.v[lane]);
}
FERRO_INLINE Vec operator*(Vec a, Vec b) {
  FERRO_EACH_LANE(a.v[lane] * b.v[lane]);
}
FERRO_INLINE Vec operator/(Vec a, Vec b) {
  FERRO_EACH_LANE(a.v[lane] / b.v[lane]);
}
FERRO_INLINE Vec fma(Vec a, Vec b, Vec c) {
  FERRO_EACH_LANE(a.v[lane] * b.v[lane] + c.v[lane]);
}
FERRO_INLINE Vec fnma(Vec a, Vec b, Vec c) {
  FERRO_EACH_LANE(c.v[lane] - a.v[lane] * b.v[lane]);
}
FERRO_INLINE Vec max(Vec a, Vec b) {
  FERRO_EACH_LANE(a.v[lane] > b.v[lane] ? a.v[lane] : b.v[lane]);
}
FERRO_INLINE Vec min(Vec a, Vec b) {
  FERRO_EACH_LANE(a.v[lane] < b.v[lane] ? a.v[lane] : b.v[lane]);
}
FERRO_INLINE Vec abs(Vec a) {
  FERRO_EACH_LANE(__builtin_fabsf(a.v[lane]));
}
/// Adding and taking away 1.5 * 2^23 rounds a float of less than 2^22 to the nearest integer.
FERRO_INLINE Vec round_to_even(Vec a) {
  FERRO_EACH_LANE((a.v[lane] + 12582912.0f) - 12582912.0f);
}
FERRO_INLINE Vec select_less(Vec a, Vec b, Vec x, Vec y) {
  FERRO_EACH_LANE(a.v[lane] < b.v[lane] ? x.v[lane] : y.v[lane]);
}
FERRO_INLINE Vec scale_unless_less(Vec a, Vec n, Vec x, Vec lowest) {
  Vec out;
  for (int lane = 0; lane < kLanes; ++lane) {
    const float half = n.v[lane] - 1.0f;
    const bool finite = half >= -127.0f && half <= 127.0f;
    const std::int32_t bits = finite ? (static_cast<std::int32_t>(half) + 127) << 23 : 0;
    float power;
    std::memcpy(&power, &bits, sizeof bits);
    out.v[lane] = x.v[lane] < lowest.v[lane] ? 0.0f : a.v[lane] * 2.0f * power;
  }
  return out;
}
FERRO_INLINE Vec copy_sign(Vec magnitude, Vec sign) {
  FERRO_EACH_LANE(__builtin_copysignf(magnitude.v[lane], sign.v[lane]));
}
#undef FERRO_EACH_LANE

#endif

// Sums of lanes are a binary tree of halves: lane i with lane i + kLanes / 2, and so on.
#if defined(__AVX2__)

FERRO_INLINE float sum_lanes(__m256 a) {
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
FERRO_INLINE float max_lanes(__m256 a) {
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}
#if defined(__AVX512F__)
FERRO_INLINE __m256 upper_half(__m512 a) {
  return _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(a), 1));
}
FERRO_INLINE float sum_lanes(Vec a) {
  return sum_lanes(_mm256_add_ps(_mm512_castps512_ps256(a.v), upper_half(a.v)));
}
FERRO_INLINE float max_lanes(Vec a) {
  return max_lanes(_mm256_max_ps(_mm512_castps512_ps256(a.v), upper_half(a.v)));
}
#else
FERRO_INLINE float sum_lanes(Vec a) {
  return sum_lanes(a.v);
}
FERRO_INLINE float max_lanes(Vec a) {
  return max_lanes(a.v);
}
#endif

#else

FERRO_INLINE float sum_lanes(Vec a) {
  for (int half = kLanes / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) a.v[i] += a.v[i + half];
  return a.v[0];
}
FERRO_INLINE float max_lanes(Vec a) {
  float best = a.v[0];
  for (int i = 1; i < kLanes; ++i) best = a.v[i] > best ? a.v[i] : best;
  return best;
}

#endif

// Short rows are moved by vectors: the compiler's own choice for an unknown length is a string instruction
// with a slow start.
FERRO_INLINE void copy_floats(float* to, const float* from, std::int64_t n) {
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(to + i, load(from + i));
  if (i < n) store_first(to + i, static_cast<int>(n - i), load_first(from + i, static_cast<int>(n - i)));
}
FERRO_INLINE void zero_floats(float* to, std::int64_t n) {
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(to + i, zero());
  if (i < n) store_first(to + i, static_cast<int>(n - i), zero());
}
FERRO_INLINE void add_floats(float* to, const float* from, std::int64_t n) {
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(to + i, load(to + i) + load(from + i));
  const int rest = static_cast<int>(n - i);
  if (rest > 0) store_first(to + i, rest, load_first(to + i, rest) + load_first(from + i, rest));
}

}  // namespace ferro::kernels::FERRO_KERNEL_ISA
