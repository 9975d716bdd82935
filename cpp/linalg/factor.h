// The Cholesky factor inside: R = L L^H, block column by block column (left-looking), and what is solved with it. A block
// of the diagonal is factored and inverted at once (kernels/rows/complex_factor.h); all else is products.
#pragma once

#include "linalg/load.h"

namespace loopos {

/// L (n, n), zeros above the diagonal, rows row_stride(n) numbers apart, of 2^-exponent R; the inverses of its diagonal
/// blocks. In memory of the calling thread, until its next factor().
template <class T>
struct Factor {
  const T* l;
  const T* inverses;
  Index n;
  int exponent;  // even
};

/// NotPositiveDefinite naming pivot and value; MatrixError where r is not finite or not Hermitian.
template <class T>
Factor<T> factor(const Complex<T>* r, Index n);

/// Z (m, n) = Z L^-H, and Z = Z L^-1, in place, rows row_stride(n) numbers apart. upper: only the upper triangle of the
/// result is asked for, and for the first what is below the diagonal of Z is 0.
template <class T>
void solve_adjoint_right(const Factor<T>& f, Index m, bool upper, T* z);
template <class T>
void solve_right(const Factor<T>& f, Index m, bool upper, T* z);

/// The upper triangle of the inverse of L L^H, rows row_stride(n) numbers apart.
template <class T>
void invert(const Factor<T>& f, T* z);

}  // namespace loopos
