// V<float>: the widest vector of the instruction set this file is compiled for. V<double>: one number, so that the same
// kernel text is both the fast float path and the plain double loop (the reference).
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

namespace loopos::kernels::LOOPOS_ISA_NAME {

using Index = std::int64_t;

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

typedef float vfloat __attribute__((vector_size(kVectorBytes)));
typedef std::int32_t vint __attribute__((vector_size(kVectorBytes)));

template <class T>
struct V;

template <class T>
using Mask = typename V<T>::Mask;

template <>
struct V<float> {
  static constexpr int N = kVectorBytes / 4;
  using Mask = vint;
  vfloat v;

  V() = default;
  V(vfloat x) : v(x) {}
  V(float x) : v(x - vfloat{}) {}  // x - 0: every lane keeps the sign of x, also of -0

  static V load(const float* p) {
    V r;
    std::memcpy(&r.v, p, sizeof r.v);
    return r;
  }
  void store(float* p) const { std::memcpy(p, &v, sizeof v); }

  /// The first n lanes (1 <= n <= N); the others are zero, so that a tail never holds garbage that could raise a flag.
  static V load(const float* p, int n) {
#if defined(__AVX512F__)
    return V((vfloat)_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1), p));
#else
    V r(0.0f);
    std::memcpy(&r.v, p, sizeof(float) * static_cast<unsigned>(n));
    return r;
#endif
  }
  void store(float* p, int n) const {
#if defined(__AVX512F__)
    _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1), (__m512)v);
#else
    std::memcpy(p, &v, sizeof(float) * static_cast<unsigned>(n));
#endif
  }

  friend V operator+(V a, V b) { return a.v + b.v; }
  friend V operator-(V a, V b) { return a.v - b.v; }
  friend V operator*(V a, V b) { return a.v * b.v; }
  friend V operator/(V a, V b) { return a.v / b.v; }
  friend V operator-(V a) { return -a.v; }
  friend Mask operator>(V a, V b) { return a.v > b.v; }
  friend Mask operator<(V a, V b) { return a.v < b.v; }
  friend Mask operator>=(V a, V b) { return a.v >= b.v; }
};

inline V<float> select(vint m, V<float> yes, V<float> no) {
  return m ? yes.v : no.v;
}

inline V<float> fma(V<float> a, V<float> b, V<float> c) {
#if defined(__AVX512F__)
  return V<float>((vfloat)_mm512_fmadd_ps((__m512)a.v, (__m512)b.v, (__m512)c.v));
#elif defined(__AVX2__)
  return V<float>((vfloat)_mm256_fmadd_ps((__m256)a.v, (__m256)b.v, (__m256)c.v));
#else
  return a * b + c;  // two roundings: the baseline has no fused instruction
#endif
}

inline V<float> sqrt(V<float> a) {
#if defined(__AVX512F__)
  return V<float>((vfloat)_mm512_sqrt_ps((__m512)a.v));
#elif defined(__AVX2__)
  return V<float>((vfloat)_mm256_sqrt_ps((__m256)a.v));
#else
  V<float> r;
  for (int i = 0; i < V<float>::N; ++i) r.v[i] = __builtin_sqrtf(a.v[i]);
  return r;
#endif
}

inline V<float> abs(V<float> a) {
  vint bits;
  std::memcpy(&bits, &a.v, sizeof bits);
  bits &= 0x7fffffff;
  V<float> r;
  std::memcpy(&r.v, &bits, sizeof bits);
  return r;
}

/// a >= 0 with the sign of x.
inline V<float> copysign(V<float> a, V<float> x) {
  vint bits, sign;
  std::memcpy(&bits, &a.v, sizeof bits);
  std::memcpy(&sign, &x.v, sizeof sign);
  bits |= sign & static_cast<std::int32_t>(0x80000000u);
  V<float> r;
  std::memcpy(&r.v, &bits, sizeof bits);
  return r;
}

/// The leading 12 bits of each number: its square is exact.
inline V<float> truncate(V<float> a) {
  vint bits;
  std::memcpy(&bits, &a.v, sizeof bits);
  bits &= ~0xfff;
  V<float> r;
  std::memcpy(&r.v, &bits, sizeof bits);
  return r;
}

/// Sum of the lanes in double, in a fixed order.
inline double sum(V<float> a) {
  double s = 0;
  for (int i = 0; i < V<float>::N; ++i) s += static_cast<double>(a.v[i]);
  return s;
}

/// The largest lane. A NaN may be passed over or come out.
inline float max_lane(V<float> a) {
#if defined(__AVX512F__)
  const __m256 half = _mm256_max_ps(_mm512_castps512_ps256((__m512)a.v), _mm512_extractf32x8_ps((__m512)a.v, 1));
  __m128 quarter = _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  quarter = _mm_max_ps(quarter, _mm_movehl_ps(quarter, quarter));
  return _mm_cvtss_f32(_mm_max_ss(quarter, _mm_movehdup_ps(quarter)));
#else
  float best = a.v[0];
  for (int i = 1; i < V<float>::N; ++i) best = a.v[i] > best ? a.v[i] : best;
  return best;
#endif
}

/// A sum in double of float vectors, exact enough for statistics over rows of any length: every lane is widened before
/// it is added. The forms that read a whole vector from memory widen it while it is loaded, without shuffles.
template <class T>
struct WideSum;

template <>
struct WideSum<float> {
#if defined(__AVX512F__)
  __m512d lo = _mm512_setzero_pd(), hi = _mm512_setzero_pd();
  static __m512d widen_lo(V<float> a) { return _mm512_cvtps_pd(_mm512_castps512_ps256((__m512)a.v)); }
  static __m512d widen_hi(V<float> a) { return _mm512_cvtps_pd(_mm512_extractf32x8_ps((__m512)a.v, 1)); }
  void add(V<float> a) {
    lo = _mm512_add_pd(lo, widen_lo(a));
    hi = _mm512_add_pd(hi, widen_hi(a));
  }
  void add_product(V<float> a, V<float> b) {
    lo = _mm512_fmadd_pd(widen_lo(a), widen_lo(b), lo);
    hi = _mm512_fmadd_pd(widen_hi(a), widen_hi(b), hi);
  }
  void add(const float* p) {
    lo = _mm512_add_pd(lo, _mm512_cvtps_pd(_mm256_loadu_ps(p)));
    hi = _mm512_add_pd(hi, _mm512_cvtps_pd(_mm256_loadu_ps(p + 8)));
  }
  void add_square(const float* p) {
    const __m512d a = _mm512_cvtps_pd(_mm256_loadu_ps(p)), b = _mm512_cvtps_pd(_mm256_loadu_ps(p + 8));
    lo = _mm512_fmadd_pd(a, a, lo);
    hi = _mm512_fmadd_pd(b, b, hi);
  }
  double total() const {
    alignas(64) double x[8];
    _mm512_store_pd(x, _mm512_add_pd(lo, hi));
    return ((x[0] + x[4]) + (x[1] + x[5])) + ((x[2] + x[6]) + (x[3] + x[7]));
  }
#elif defined(__AVX2__)
  __m256d lo = _mm256_setzero_pd(), hi = _mm256_setzero_pd();
  static __m256d widen_lo(V<float> a) { return _mm256_cvtps_pd(_mm256_castps256_ps128((__m256)a.v)); }
  static __m256d widen_hi(V<float> a) { return _mm256_cvtps_pd(_mm256_extractf128_ps((__m256)a.v, 1)); }
  void add(V<float> a) {
    lo = _mm256_add_pd(lo, widen_lo(a));
    hi = _mm256_add_pd(hi, widen_hi(a));
  }
  void add_product(V<float> a, V<float> b) {
    lo = _mm256_fmadd_pd(widen_lo(a), widen_lo(b), lo);
    hi = _mm256_fmadd_pd(widen_hi(a), widen_hi(b), hi);
  }
  void add(const float* p) {
    lo = _mm256_add_pd(lo, _mm256_cvtps_pd(_mm_loadu_ps(p)));
    hi = _mm256_add_pd(hi, _mm256_cvtps_pd(_mm_loadu_ps(p + 4)));
  }
  void add_square(const float* p) {
    const __m256d a = _mm256_cvtps_pd(_mm_loadu_ps(p)), b = _mm256_cvtps_pd(_mm_loadu_ps(p + 4));
    lo = _mm256_fmadd_pd(a, a, lo);
    hi = _mm256_fmadd_pd(b, b, hi);
  }
  double total() const {
    alignas(32) double x[4];
    _mm256_store_pd(x, _mm256_add_pd(lo, hi));
    return (x[0] + x[2]) + (x[1] + x[3]);
  }
#else
  double x[4] = {0, 0, 0, 0};
  void add(V<float> a) {
    for (int i = 0; i < 4; ++i) x[i] += static_cast<double>(a.v[i]);
  }
  void add_product(V<float> a, V<float> b) {
    for (int i = 0; i < 4; ++i) x[i] += static_cast<double>(a.v[i]) * static_cast<double>(b.v[i]);
  }
  void add(const float* p) { add(V<float>::load(p)); }
  void add_square(const float* p) { add_product(V<float>::load(p), V<float>::load(p)); }
  double total() const { return (x[0] + x[2]) + (x[1] + x[3]); }
#endif
};

// ---- double: one number ----

template <>
struct V<double> {
  static constexpr int N = 1;
  using Mask = bool;
  double v;
  V() = default;
  V(double x) : v(x) {}
  static V load(const double* p) { return *p; }
  static V load(const double* p, int) { return *p; }
  void store(double* p) const { *p = v; }
  void store(double* p, int) const { *p = v; }
  friend V operator+(V a, V b) { return a.v + b.v; }
  friend V operator-(V a, V b) { return a.v - b.v; }
  friend V operator*(V a, V b) { return a.v * b.v; }
  friend V operator/(V a, V b) { return a.v / b.v; }
  friend V operator-(V a) { return -a.v; }
  friend Mask operator>(V a, V b) { return a.v > b.v; }
  friend Mask operator<(V a, V b) { return a.v < b.v; }
  friend Mask operator>=(V a, V b) { return a.v >= b.v; }
};

inline V<double> select(bool m, V<double> yes, V<double> no) {
  return m ? yes : no;
}
inline V<double> fma(V<double> a, V<double> b, V<double> c) {
  return a.v * b.v + c.v;
}
inline V<double> sqrt(V<double> a) {
  return std::sqrt(a.v);
}
inline V<double> abs(V<double> a) {
  return std::fabs(a.v);
}
inline double max_lane(V<double> a) {
  return a.v;
}
inline double sum(V<double> a) {
  return a.v;
}

template <>
struct WideSum<double> {
  double s = 0;
  void add(V<double> a) { s += a.v; }
  void add_product(V<double> a, V<double> b) { s += a.v * b.v; }
  void add(const double* p) { s += *p; }
  void add_square(const double* p) { s += *p * *p; }
  double total() const { return s; }
};

/// Calls body(offset, n) over [0, n): full vectors with n = N (a constant the compiler sees), then one tail.
template <class T, class Body>
inline void for_each_vector(Index n, Body&& body) {
  constexpr int N = V<T>::N;
  Index i = 0;
  for (; i + N <= n; i += N) body(i, std::integral_constant<int, N>{});
  if (i < n) body(i, static_cast<int>(n - i));
}

/// Loads n lanes; a full vector when n is the constant N.
template <class T>
inline V<T> load(const T* p, std::integral_constant<int, V<T>::N>) {
  return V<T>::load(p);
}
template <class T>
inline V<T> load(const T* p, int n) {
  return V<T>::load(p, n);
}
/// Like load, but the lanes beyond n hold `fill`, for kernels in which a zero would raise a flag that no element of the
/// row raises.
template <class T>
inline V<T> load_filled(const T* p, std::integral_constant<int, V<T>::N>, T) {
  return V<T>::load(p);
}
template <class T>
inline V<T> load_filled(const T* p, int n, T fill) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4)
    return V<T>((vfloat)_mm512_mask_loadu_ps(_mm512_set1_ps(fill), static_cast<__mmask16>((1u << n) - 1), p));
#endif
  T lanes[V<T>::N];
  for (int i = 0; i < V<T>::N; ++i) lanes[i] = i < n ? p[i] : fill;
  return V<T>::load(lanes);
}
template <class T>
inline void store(V<T> x, T* p, std::integral_constant<int, V<T>::N>) {
  x.store(p);
}
template <class T>
inline void store(V<T> x, T* p, int n) {
  x.store(p, n);
}

/// Adds n lanes, or their squares, to a sum.
template <class T>
inline void add_to(WideSum<T>& total, const T* p, std::integral_constant<int, V<T>::N>) {
  total.add(p);
}
template <class T>
inline void add_to(WideSum<T>& total, const T* p, int n) {
  total.add(V<T>::load(p, n));
}
template <class T>
inline void add_square_to(WideSum<T>& total, const T* p, std::integral_constant<int, V<T>::N>) {
  total.add_square(p);
}
template <class T>
inline void add_square_to(WideSum<T>& total, const T* p, int n) {
  const V<T> x = V<T>::load(p, n);
  total.add_product(x, x);
}

}  // namespace loopos::kernels::LOOPOS_ISA_NAME
