// Cholesky of one small complex block, in two planes of real numbers whose rows are as long as a vector.
#pragma once

#include <cmath>

#include "kernels/isa/complex.h"
#include "kernels/isa/vec.h"

namespace loopos::kernels::LOOPOS_ISA_NAME {

template <class T>
struct Planes {
  T re[kFactorBlock][kFactorBlock], im[kFactorBlock][kFactorBlock];
};

/// row -= (x + iy) of; all three kFactorBlock long.
template <class T>
inline void subtract_multiple(T x, T y, const T* of_re, const T* of_im, T* re, T* im) {
  if constexpr (sizeof(T) == 4) {
    const V<float> plus(y), minus_x(-x), minus_y(-y);
    for (Index j = 0; j < kFactorBlock; j += V<float>::N) {
      const V<float> u = V<float>::load(of_re + j), v = V<float>::load(of_im + j);
      fma(plus, v, fma(minus_x, u, V<float>::load(re + j))).store(re + j);
      fma(minus_y, u, fma(minus_x, v, V<float>::load(im + j))).store(im + j);
    }
  } else {
    for (Index j = 0; j < kFactorBlock; ++j) {
      re[j] -= x * of_re[j] - y * of_im[j];
      im[j] -= x * of_im[j] + y * of_re[j];
    }
  }
}

/// The inverse of the lower triangle l: row i is (e_i - sum over j < i of l_ij row j) / l_ii.
template <class T>
inline void invert_lower(const Planes<T>& l, Index n, Planes<T>& w) {
  for (Index i = 0; i < n; ++i) {
    for (Index j = 0; j < kFactorBlock; ++j) w.re[i][j] = w.im[i][j] = 0;
    w.re[i][i] = 1;
    for (Index j = 0; j < i; ++j) subtract_multiple(l.re[i][j], l.im[i][j], w.re[j], w.im[j], w.re[i], w.im[i]);
    const T inverse = 1 / l.re[i][i];
    for (Index j = 0; j < kFactorBlock; ++j) {
      w.re[i][j] *= inverse;
      w.im[i][j] *= inverse;
    }
  }
}

template <class T>
Index factor_block(T* a, Index stride, Index n, T* inverse, T* value) {
  Planes<T> l, w;
  for (Index i = 0; i < n; ++i)
    for (Index j = 0; j < kFactorBlock; ++j) {
      l.re[i][j] = j <= i ? a[i * stride + 2 * j] : T(0);
      l.im[i][j] = j < i ? a[i * stride + 2 * j + 1] : T(0);
    }
  for (Index k = 0; k < n; ++k) {
    *value = l.re[k][k];
    if (!(*value > 0)) return k;
    const T root = std::sqrt(*value), scale = 1 / root;
    T re[kFactorBlock] = {}, im[kFactorBlock] = {};  // the conjugate of column k, below the diagonal
    for (Index i = k + 1; i < n; ++i) {
      l.re[i][k] *= scale;
      l.im[i][k] *= scale;
      re[i] = l.re[i][k];
      im[i] = -l.im[i][k];
    }
    l.re[k][k] = root;
    for (Index i = k + 1; i < n; ++i) subtract_multiple(l.re[i][k], l.im[i][k], re, im, l.re[i], l.im[i]);
  }
  invert_lower(l, n, w);
  for (Index i = 0; i < n; ++i)
    for (Index j = 0; j < n; ++j) {
      a[i * stride + 2 * j] = j <= i ? l.re[i][j] : T(0);
      a[i * stride + 2 * j + 1] = j < i ? l.im[i][j] : T(0);
      inverse[2 * (i * kFactorBlock + j)] = w.re[i][j];
      inverse[2 * (i * kFactorBlock + j) + 1] = w.im[i][j];
    }
  return n;
}

}  // namespace loopos::kernels::LOOPOS_ISA_NAME
