// exp, tanh, sigmoid and erfc on vectors. Accuracy is gated in tests/test_kernels.py and tests/ops (exp <= 2 ULP, tanh and sigmoid <= 4 ULP).
// NaN goes through; a flag is raised only where the true result overflows. double uses the C library.
#pragma once

#include "kernels/vec.h"

namespace loopos::kernels::LOOPOS_ISA_NAME {

inline V<double> exp(V<double> x) { return std::exp(x.v); }
inline V<double> tanh(V<double> x) { return std::tanh(x.v); }
inline V<double> erfc(V<double> x) { return std::erfc(x.v); }

/// 2^n * y for integral-valued n in [-160, 160], in two steps so that overflow and gradual underflow come out as they should.
inline V<float> scale_by_power(V<float> y, V<float> n) {
#if defined(__AVX512F__)
  return V<float>((vfloat)_mm512_scalef_ps((__m512)y.v, (__m512)n.v));
#else
  const vint k = __builtin_convertvector(n.v, vint);
  const vint half = k >> 1;
  const vint bits1 = (half + 127) << 23, bits2 = (k - half + 127) << 23;
  V<float> s1, s2;
  std::memcpy(&s1.v, &bits1, sizeof bits1);
  std::memcpy(&s2.v, &bits2, sizeof bits2);
  return y * s1 * s2;
#endif
}

/// e^x: x = n ln 2 + r with |r| <= ln(2)/2, a polynomial of degree 7 in r (coefficients: Cephes expf, S. Moshier), then 2^n.
inline V<float> exp(V<float> x) {
  const V<float> c = select(x > V<float>(90.0f), 90.0f, select(x < V<float>(-110.0f), -110.0f, x));
  const V<float> magic(12582912.0f);  // 1.5 * 2^23: adding it rounds to the nearest whole number
  const V<float> n = fma(c, 1.44269504088896341f, magic) - magic;
  V<float> r = fma(n, -0.693359375f, c);  // ln 2 in two parts; the first has few bits, so the product is exact
  r = fma(n, 2.12194440e-4f, r);
  V<float> p(1.9875691500e-4f);
  p = fma(p, r, 1.3981999507e-3f);
  p = fma(p, r, 8.3334519073e-3f);
  p = fma(p, r, 4.1665795894e-2f);
  p = fma(p, r, 1.6666665459e-1f);
  p = fma(p, r, 5.0000001201e-1f);
  const V<float> y = fma(p, r * r, r) + 1.0f;
#if defined(__AVX512F__)
  return scale_by_power(y, n);
#else
  return select((vint)(x.v != x.v), x, scale_by_power(y, select((vint)(x.v != x.v), 0.0f, n)));
#endif
}

/// 1 / (1 + e^-x) without overflow for any x, accurate in both tails.
template <class T>
inline V<T> sigmoid(V<T> x) {
  const V<T> e = exp(-abs(x));
  const V<T> d = e + V<T>(T(1));
  return select(x >= V<T>(T(0)), V<T>(T(1)), e) / d;
}

/// tanh: an odd polynomial near 0 (Cephes tanhf), else 1 - 2 / (e^2|x| + 1).
inline V<float> tanh(V<float> x) {
  const V<float> a = select(abs(x) > V<float>(20.0f), 20.0f, abs(x));
  const V<float> z = x * select(abs(x) > V<float>(1.0f), 0.0f, x);  // only the near branch reads it: no overflow for large x
  V<float> p(-5.70498872745e-3f);
  p = fma(p, z, 2.06390887954e-2f);
  p = fma(p, z, -5.37397155531e-2f);
  p = fma(p, z, 1.33314422036e-1f);
  p = fma(p, z, -3.33332819422e-1f);
  const V<float> near = fma(p * z, x, x);
  const V<float> far = V<float>(1.0f) - V<float>(2.0f) / (exp(a + a) + 1.0f);
  const V<float> signed_far = select(x < V<float>(0.0f), -far, far);
  return select(abs(x) > V<float>(0.625f), signed_far, near);
}

/// erfc for a >= 0, relative error below 2e-7: t e^(-a^2 + P(t)) with t = 1 / (1 + a/2) (W. J. Cody's form; coefficients from
/// Press et al., Numerical Recipes, "erfcc").
inline V<float> erfc_nonnegative(V<float> a) {
  a = select(a > V<float>(12.0f), 12.0f, a);
  const V<float> t = V<float>(1.0f) / fma(a, 0.5f, 1.0f);
  V<float> p(0.17087277f);
  p = fma(p, t, -0.82215223f);
  p = fma(p, t, 1.48851587f);
  p = fma(p, t, -1.13520398f);
  p = fma(p, t, 0.27886807f);
  p = fma(p, t, -0.18628806f);
  p = fma(p, t, 0.09678418f);
  p = fma(p, t, 0.37409196f);
  p = fma(p, t, 1.00002368f);
  p = fma(p, t, -1.26551223f);
  return t * exp(p - a * a);
}

inline V<double> erfc_nonnegative(V<double> a) { return erfc(a); }

}  // namespace loopos::kernels::LOOPOS_ISA_NAME
