// Eigenvalues and eigenvectors of a real symmetric tridiagonal matrix by implicit QL steps (Dubrulle, Martin, Wilkinson,
// 1968). The matrix is in double. The rotations of some sweeps are kept and then applied to the vectors together, some
// columns at a time: these stay in the first-level cache, and what one rotation leaves in registers for the next.
#pragma once

#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/isa/complex.h"
#include "kernels/rows/wide.h"

namespace loopos::kernels::LOOPOS_ISA_NAME {

/// Rotations of rows end - 1 down to begin, each with the row behind it: (z_i, z_i+1) = (c z_i - s z_i+1, s z_i + c z_i+1).
template <class T>
struct Sweep {
  const T* rotations;  // c and s of row i at [2 i]
  Index begin, end;
};

/// kVectors vectors of each row, at z.
template <class T, int kVectors>
inline void rotate_columns(const Sweep<T>& sweep, Index stride, T* z) {
  using W = Wide<T>;
  W carried[kVectors];
  for (int k = 0; k < kVectors; ++k) carried[k] = W::load(z + sweep.end * stride + k * W::N);
  for (Index i = sweep.end - 1; i >= sweep.begin; --i) {
    const W c(sweep.rotations[2 * i]), s(sweep.rotations[2 * i + 1]);
    T* row = z + i * stride;
#pragma GCC unroll 4
    for (int k = 0; k < kVectors; ++k) {
      const W x = W::load(row + k * W::N);
      fma(c, carried[k], s * x).store(row + stride + k * W::N);
      carried[k] = minus_product(s, carried[k], c * x);
    }
  }
  for (int k = 0; k < kVectors; ++k) carried[k].store(z + sweep.begin * stride + k * W::N);
}

template <class T>
inline void rotate_rows(const Sweep<T>* sweeps, Index many, Index stride, T* z) {
  constexpr Index N = Wide<T>::N;
  Index column = 0;
  for (; column + 3 * N <= stride; column += 3 * N)
    for (Index k = 0; k < many; ++k) rotate_columns<T, 3>(sweeps[k], stride, z + column);
  for (; column < stride; column += N)
    for (Index k = 0; k < many; ++k) rotate_columns<T, 1>(sweeps[k], stride, z + column);
}

constexpr double kNothing = 1e-290;  // of a square: beside numbers near 1 its root is 0

inline double multiply_add(double a, double b, double c) {
#if defined(__FMA__)
  return __builtin_fma(a, b, c);
#else
  return a * b + c;
#endif
}

/// d (n) the diagonal, e (n) what is beside it and then anything; d becomes the eigenvalues, in no order. z (n, stride),
/// whose stride is a vector_stride, is multiplied from the left by the transpose of the vectors: from the identity, row i
/// becomes the vector of d_i. rotations: rotations_memory(n). False where an eigenvalue takes more than 60 steps.
template <class T>
bool tridiagonal_ql(double* d, double* e, Index n, T* rotations, Index stride, T* z) {
  const double small = sizeof(T) == 4 ? 1e-9 : std::numeric_limits<double>::epsilon();
  Sweep<T> sweeps[kSweeps];
  Index kept = 0;
  e[n - 1] = 0;
  for (Index l = 0; l < n; ++l)
    for (int steps = 0;; ++steps) {
      Index m = l;  // the block that begins at l ends at m
      while (m < n - 1 && !(std::fabs(e[m]) <= small * (std::fabs(d[m]) + std::fabs(d[m + 1])))) ++m;
      if (m == l) break;
      if (steps == 60) return false;
      const double half = (d[l + 1] - d[l]) / (2 * e[l]), root = std::sqrt(half * half + 1);
      double g = d[m] - d[l] + e[l] / (half + std::copysign(root, half));  // d_m less Wilkinson's shift
      double s = 1, c = 1, p = 0;
      T* mine = rotations + 2 * kept * n;
      Index i = m - 1;
      for (; i >= l; --i) {
        // One number waits for another here: a root and a division side by side are faster than one behind the other.
        const double f = s * e[i], b = c * e[i], square = multiply_add(g, g, f * f), r = std::sqrt(square);
        if (!(square > kNothing)) {  // the block falls apart here
          e[i + 1] = 0;
          d[i + 1] -= p;
          e[m] = 0;
          break;
        }
        e[i + 1] = r;
        s = f / square * r;
        c = g / square * r;
        g = d[i + 1] - p;
        const double t = multiply_add(d[i] - g, s, 2 * c * b);
        p = s * t;
        d[i + 1] = g + p;
        g = multiply_add(c, t, -b);
        mine[2 * i] = static_cast<T>(c);
        mine[2 * i + 1] = static_cast<T>(s);
      }
      if (i + 1 < m) sweeps[kept++] = {mine, i + 1, m};
      if (kept == kSweeps) {
        rotate_rows(sweeps, kept, stride, z);
        kept = 0;
      }
      if (i >= l) continue;
      d[l] -= p;
      e[l] = g;
      e[m] = 0;
    }
  rotate_rows(sweeps, kept, stride, z);
  return true;
}

}  // namespace loopos::kernels::LOOPOS_ISA_NAME
