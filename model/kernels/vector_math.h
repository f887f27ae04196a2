#pragma once

#include "model/kernels/simd.h"

namespace ferro::kernels::FERRO_KERNEL_ISA {

/// e^x to about 1 ulp for x in [-86.6, 88.7]; 0 below (-inf included: no result is subnormal, which would be
/// slow), inf above, NaN for NaN. x = n ln 2 + r with |r| <= ln 2 / 2 (ln 2 in two parts, the first exact for
/// |n| < 2^9: Cody and Waite), then 1 + r + r^2 p(r), p interpolating (e^r - 1 - r) / r^2 at Chebyshev nodes
/// (relative error 1e-8 before rounding).
FERRO_INLINE Vec exp(Vec x) {
  const Vec limited = min(broadcast(89.0f), x);
  const Vec n = round_to_even(limited * broadcast(1.44269504f));
  Vec r = fnma(n, broadcast(0.693359375f), limited);
  r = fnma(n, broadcast(-2.12194440e-4f), r);
  Vec p = broadcast(1.392618359e-3f);
  p = fma(p, r, broadcast(8.363179053e-3f));
  p = fma(p, r, broadcast(4.166655462e-2f));
  p = fma(p, r, broadcast(0.1666657699f));
  p = fma(p, r, broadcast(0.5f));
  const Vec e = fma(r * r, p, r) + broadcast(1.0f);
  return scale_unless_less(e, n, x, broadcast(-86.6f));
}

/// erf(x) to about 1 ulp. Up to |x| = 1 an odd polynomial; above, 1 - e^p(|x|) with p interpolating log erfc
/// on [1, 4] at Chebyshev nodes; erf(4) rounds to 1.
FERRO_INLINE Vec erf(Vec x) {
  const Vec a = abs(x);
  const Vec t = x * x;
  Vec small = broadcast(-9.667044571e-6f);
  small = fma(small, t, broadcast(1.126595903e-4f));
  small = fma(small, t, broadcast(-8.484080406e-4f));
  small = fma(small, t, broadcast(5.221031808e-3f));
  small = fma(small, t, broadcast(-2.686543073e-2f));
  small = fma(small, t, broadcast(0.112837825f));
  small = fma(small, t, broadcast(-0.3761263847f));
  // 2 / sqrt(pi) = 1 + 0.128...: the product is then rounded once.
  small = fma(small, t, broadcast(0.1283791671f));
  small = fma(small, x, x);
  const Vec u = min(broadcast(4.0f), a) - broadcast(2.5f);
  Vec log_erfc = broadcast(1.637151415e-6f);
  log_erfc = fma(log_erfc, u, broadcast(-1.33150144e-5f));
  log_erfc = fma(log_erfc, u, broadcast(7.729137615e-5f));
  log_erfc = fma(log_erfc, u, broadcast(-4.201225235e-4f));
  log_erfc = fma(log_erfc, u, broadcast(2.165303549e-3f));
  log_erfc = fma(log_erfc, u, broadcast(-1.085854164e-2f));
  log_erfc = fma(log_erfc, u, broadcast(-0.9438937036f));
  log_erfc = fma(log_erfc, u, broadcast(-5.352680674f));
  log_erfc = fma(log_erfc, u, broadcast(-7.806815273f));
  const Vec large = copy_sign(broadcast(1.0f) - exp(log_erfc), x);
  return select_less(broadcast(1.0f), a, large, small);
}

/// 1 / (1 + e^-x).
FERRO_INLINE Vec sigmoid(Vec x) {
  return broadcast(1.0f) / (broadcast(1.0f) + exp(zero() - x));
}

}  // namespace ferro::kernels::FERRO_KERNEL_ISA
