// exp, sigmoid, tanh and the Gaussian tail on vectors. Accuracy is gated through the ops in
// tests/ops/test_activation.py and test_softmax.py (exp <= 2 ULP; tanh, sigmoid, silu <= 4 ULP). NaN goes through; a
// flag is raised only where the true result overflows or is undefined. double uses the C library.
#pragma once

#include "kernels/isa/vec.h"

namespace loopos::kernels::LOOPOS_ISA_NAME {

inline V<double> exp(V<double> x) {
  return std::exp(x.v);
}
inline V<double> tanh(V<double> x) {
  return std::tanh(x.v);
}

/// x held in [-limit, limit]; NaN stays NaN.
template <class T>
inline V<T> clamp(V<T> x, T limit) {
  return select(x > V<T>(limit), V<T>(limit), select(x < V<T>(-limit), V<T>(-limit), x));
}

/// 2^n * y for integral-valued n in [-160, 160], in two steps so that overflow and gradual underflow come out as they
/// should.
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

/// e^(x + rest) = y 2^n, with y near 1; |rest| < 1/16 carries what x is too coarse to hold. x is taken within [-110,
/// 90], where 2^n y is 0 or inf already.
struct ScaledExp {
  V<float> y, n;
};

/// x = n ln 2 + r with |r| <= ln(2)/2, a polynomial of degree 7 in r (coefficients: Cephes expf, S. Moshier).
inline ScaledExp scaled_exp(V<float> x, V<float> rest) {
  const V<float> c = select(x > V<float>(90.0f), 90.0f, select(x < V<float>(-110.0f), -110.0f, x));
  const V<float> magic(12582912.0f);  // 1.5 * 2^23: adding it rounds to the nearest whole number
  V<float> n = fma(c, 1.44269504088896341f, magic) - magic;
#if !defined(__AVX512F__)
  n = select((vint)(x.v != x.v), 0.0f, n);  // scale_by_power makes an integer of it; the NaN is in y
#endif
  V<float> r = fma(n, -0.693359375f, c);  // ln 2 in two parts; the first has few bits, so the product is exact
  r = fma(n, 2.12194440e-4f, r + rest);
  V<float> p(1.9875691500e-4f);
  p = fma(p, r, 1.3981999507e-3f);
  p = fma(p, r, 8.3334519073e-3f);
  p = fma(p, r, 4.1665795894e-2f);
  p = fma(p, r, 1.6666665459e-1f);
  p = fma(p, r, 5.0000001201e-1f);
  return {fma(p, r * r, r) + 1.0f, n};
}

/// Where e^x rounds to 0 the result is set to 0: underflow on the way would cost more than all the rest, for every lane
/// beyond the end of a row (-inf).
inline V<float> exp(V<float> x) {
  const V<float> zero(0.0f);
  const auto vanishes = x < V<float>(-104.0f);
  const ScaledExp e = scaled_exp(select(vanishes, zero, x), zero);
  return select(vanishes, zero, scale_by_power(e.y, e.n));
}

/// e = e^-|x| and d = 1 + e: sigmoid(|x|) = 1/d, sigmoid(-|x|) = e/d, sigmoid' = e/d^2. No overflow for any x, accurate
/// in both tails.
template <class T>
struct Logistic {
  V<T> e, d;
  Mask<T> positive;
  explicit Logistic(V<T> x) : e(exp(-abs(x))), d(e + V<T>(T(1))), positive(x >= V<T>(T(0))) {}
  V<T> value() const { return select(positive, V<T>(T(1)), e) / d; }
  V<T> complement() const { return select(positive, e, V<T>(T(1))) / d; }  // 1 - value, without cancellation
  V<T> slope() const { return e / (d * d); }
};

template <class T>
inline V<T> sigmoid(V<T> x) {
  return Logistic<T>(x).value();
}

/// x sigmoid(x). In the far negative tail x multiplies before the power of two is put in: e^x is subnormal there and
/// has few bits left.
inline V<float> silu(V<float> x) {
  const V<float> one(1.0f), zero(0.0f);
  ScaledExp e = scaled_exp(-abs(x), zero);
  const auto positive = x >= zero;
  const V<float> d = scale_by_power(e.y, e.n) + one;
  const V<float> y = select(x < V<float>(-110.0f), zero, select(positive, one, e.y));
  return scale_by_power(x * y / d, select(positive, zero, e.n));
}
inline V<double> silu(V<double> x) {
  return x * sigmoid(x);
}

/// tanh: an odd polynomial near 0 (Cephes tanhf), else 1 - 2 / (e^2|x| + 1); the sign is put back at the end, so that
/// -0 stays -0.
inline V<float> tanh(V<float> x) {
  const V<float> a = select(abs(x) > V<float>(20.0f), 20.0f, abs(x));
  const V<float> z = a * a;
  V<float> p(-5.70498872745e-3f);
  p = fma(p, z, 2.06390887954e-2f);
  p = fma(p, z, -5.37397155531e-2f);
  p = fma(p, z, 1.33314422036e-1f);
  p = fma(p, z, -3.33332819422e-1f);
  const V<float> near = fma(p * z, a, a);
  const V<float> far = V<float>(1.0f) - V<float>(2.0f) / (exp(a + a) + 1.0f);
  return copysign(select(a > V<float>(0.625f), far, near), x);
}

/// For a >= 0: bell = e^(-a^2/2) and tail = (1/sqrt(2 pi)) int_a^inf bell = erfc(a / sqrt 2) / 2, both with small
/// relative error as long as they are normal numbers.
template <class T>
struct Gauss {
  V<T> bell, tail;
};

/// a^2 is split in an exact part and a rest, for its rounding alone would cost a^2 ULP. tail / bell is t times a
/// polynomial of degree 8 in t = 1 / (1 + 0.35 a), fitted for least relative error (3.3e-8) over a in [0, 16]; beyond
/// 16 both are 0 in float.
inline Gauss<float> gauss(V<float> a) {
  a = select(a > V<float>(16.0f), 16.0f, a);
  const V<float> head = truncate(a), half(-0.5f);
  const ScaledExp e = scaled_exp(half * head * head, half * (a - head) * (a + head));
  const V<float> t = V<float>(1.0f) / fma(a, 0.35f, 1.0f);
  V<float> p(-2.916484571e-02f);
  p = fma(p, t, 1.440654113e-01f);
  p = fma(p, t, -2.559116790e-01f);
  p = fma(p, t, 1.594044830e-01f);
  p = fma(p, t, -2.327206701e-02f);
  p = fma(p, t, 1.055784076e-01f);
  p = fma(p, t, 1.198145520e-01f);
  p = fma(p, t, 1.398644715e-01f);
  p = fma(p, t, 1.396212503e-01f);
  const V<float> bell = scale_by_power(e.y, e.n);
  return {bell, bell * (p * t)};
}
inline Gauss<double> gauss(V<double> a) {
  const double c = a.v > 40 ? 40 : a.v;  // both are 0 beyond; no overflow of a^2
  return {std::exp(-0.5 * c * c), 0.5 * std::erfc(c * 0.70710678118654752440)};
}

}  // namespace loopos::kernels::LOOPOS_ISA_NAME
