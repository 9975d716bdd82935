// Eigenvalues and eigenvectors of a real symmetric tridiagonal matrix by implicit QL steps (Dubrulle, Martin, Wilkinson,
// 1968). The matrix is in double; rotations of one sweep are kept and then applied to the vectors together, some columns at
// a time, so that what one rotation leaves stays in registers for the next.
#pragma once

#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/isa/vec.h"

namespace loopos::kernels::LOOPOS_ISA_NAME {

constexpr Index kRotated = 16;  // rows of z are a multiple of so many numbers: whole vectors

template <class T>
struct Rotation {
  T c, s;
};

/// kVectors vectors of each row, at z.
template <class T, int kVectors>
inline void rotate_columns(const Rotation<T>* rotations, Index begin, Index end, Index stride, T* z) {
  typedef T Vector __attribute__((vector_size(kVectorBytes)));
  constexpr int kWidth = kVectorBytes / sizeof(T);
  Vector carried[kVectors];
  for (int k = 0; k < kVectors; ++k) std::memcpy(&carried[k], z + end * stride + k * kWidth, sizeof(Vector));
  for (Index i = end - 1; i >= begin; --i) {
    const Vector c = rotations[i].c - Vector{}, s = rotations[i].s - Vector{};
    T* row = z + i * stride;
#pragma GCC unroll 4
    for (int k = 0; k < kVectors; ++k) {
      Vector x;
      std::memcpy(&x, row + k * kWidth, sizeof x);
      const Vector next = s * x + c * carried[k];
      carried[k] = c * x - s * carried[k];
      std::memcpy(row + stride + k * kWidth, &next, sizeof next);
    }
  }
  for (int k = 0; k < kVectors; ++k) std::memcpy(z + begin * stride + k * kWidth, &carried[k], sizeof(Vector));
}

/// Rows end - 1 down to begin of z, each with the row behind it: (z_i, z_i+1) = (c z_i - s z_i+1, s z_i + c z_i+1).
template <class T>
inline void rotate_rows(const Rotation<T>* rotations, Index begin, Index end, Index stride, T* z) {
  constexpr Index kWidth = kVectorBytes / sizeof(T);
  Index column = 0;
  for (; column + 3 * kWidth <= stride; column += 3 * kWidth)
    rotate_columns<T, 3>(rotations, begin, end, stride, z + column);
  for (; column < stride; column += kWidth) rotate_columns<T, 1>(rotations, begin, end, stride, z + column);
}

/// d (n) the diagonal, e (n) what is beside it and then anything; d becomes the eigenvalues, in no order. z (n, stride),
/// stride a multiple of kRotated, is multiplied from the left by the transpose of the vectors: from the identity, row i
/// becomes the vector of d_i. rotations: memory for n. False where an eigenvalue takes more than 60 steps.
template <class T>
bool tridiagonal_ql(double* d, double* e, Index n, Rotation<T>* rotations, Index stride, T* z) {
  const double small = sizeof(T) == 4 ? 1e-9 : std::numeric_limits<double>::epsilon();
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
      Index i = m - 1;
      for (; i >= l; --i) {
        const double f = s * e[i], b = c * e[i], r = std::sqrt(f * f + g * g);
        e[i + 1] = r;
        if (r == 0) {  // the block falls apart here
          d[i + 1] -= p;
          e[m] = 0;
          break;
        }
        s = f / r;
        c = g / r;
        g = d[i + 1] - p;
        const double t = (d[i] - g) * s + 2 * c * b;
        p = s * t;
        d[i + 1] = g + p;
        g = c * t - b;
        rotations[i] = {static_cast<T>(c), static_cast<T>(s)};
      }
      if (i + 1 < m) rotate_rows(rotations, i + 1, m, stride, z);
      if (i >= l) continue;
      d[l] -= p;
      e[l] = g;
      e[m] = 0;
    }
  return true;
}

}  // namespace loopos::kernels::LOOPOS_ISA_NAME
