// The widest vector of float or of double, where both are to be fast (V<double> of vec.h is the plain loop's one number).
#pragma once

#include "kernels/isa/vec.h"

namespace loopos::kernels::LOOPOS_ISA_NAME {

typedef double vdouble __attribute__((vector_size(kVectorBytes)));

struct Doubles {
  static constexpr int N = kVectorBytes / 8;
  vdouble v;

  Doubles() = default;
  Doubles(vdouble x) : v(x) {}
  Doubles(double x) : v(x - vdouble{}) {}
  static Doubles load(const double* p) {
    Doubles r;
    std::memcpy(&r.v, p, sizeof r.v);
    return r;
  }
  void store(double* p) const { std::memcpy(p, &v, sizeof v); }
  friend Doubles operator*(Doubles a, Doubles b) { return a.v * b.v; }
};

inline Doubles fma(Doubles a, Doubles b, Doubles c) {
#if defined(__AVX512F__)
  return Doubles((vdouble)_mm512_fmadd_pd((__m512d)a.v, (__m512d)b.v, (__m512d)c.v));
#elif defined(__AVX2__)
  return Doubles((vdouble)_mm256_fmadd_pd((__m256d)a.v, (__m256d)b.v, (__m256d)c.v));
#else
  return a.v * b.v + c.v;  // two roundings, as of float
#endif
}

template <class T>
using Wide = std::conditional_t<sizeof(T) == 4, V<float>, Doubles>;

/// c - a b
inline V<float> minus_product(V<float> a, V<float> b, V<float> c) {
#if defined(__AVX512F__)
  return V<float>((vfloat)_mm512_fnmadd_ps((__m512)a.v, (__m512)b.v, (__m512)c.v));
#elif defined(__AVX2__)
  return V<float>((vfloat)_mm256_fnmadd_ps((__m256)a.v, (__m256)b.v, (__m256)c.v));
#else
  return c - a * b;
#endif
}
inline Doubles minus_product(Doubles a, Doubles b, Doubles c) {
#if defined(__AVX512F__)
  return Doubles((vdouble)_mm512_fnmadd_pd((__m512d)a.v, (__m512d)b.v, (__m512d)c.v));
#elif defined(__AVX2__)
  return Doubles((vdouble)_mm256_fnmadd_pd((__m256d)a.v, (__m256d)b.v, (__m256d)c.v));
#else
  return c.v - a.v * b.v;
#endif
}

/// The sums of the lanes of four vectors.
template <class T>
inline void sum_lanes(Wide<T> a, Wide<T> b, Wide<T> c, Wide<T> d, T* sums) {
  typedef float Four __attribute__((vector_size(16)));
  typedef double Two __attribute__((vector_size(16)));
  using Part = std::conditional_t<sizeof(T) == 4, Four, Two>;
  constexpr int kParts = kVectorBytes / 16;
  Part part[4];
  const Wide<T> all[4] = {a, b, c, d};
  for (int i = 0; i < 4; ++i) {
    Part parts[kParts];
    std::memcpy(parts, &all[i].v, sizeof parts);
    for (int width = kParts / 2; width > 0; width /= 2)
      for (int k = 0; k < width; ++k) parts[k] += parts[k + width];
    part[i] = parts[0];
  }
  if constexpr (sizeof(T) == 4) {
    typedef std::int32_t From __attribute__((vector_size(16)));
    const From even = {0, 4, 1, 5}, odd = {2, 6, 3, 7}, low = {0, 1, 4, 5}, high = {2, 3, 6, 7};
    const Part ab = __builtin_shuffle(part[0], part[1], even) + __builtin_shuffle(part[0], part[1], odd);
    const Part cd = __builtin_shuffle(part[2], part[3], even) + __builtin_shuffle(part[2], part[3], odd);
    const Part all_four = __builtin_shuffle(ab, cd, low) + __builtin_shuffle(ab, cd, high);
    std::memcpy(sums, &all_four, sizeof all_four);
  } else {
    for (int i = 0; i < 4; ++i) sums[i] = part[i][0] + part[i][1];
  }
}

}  // namespace loopos::kernels::LOOPOS_ISA_NAME
