// Eigenvalues and eigenvectors of one Hermitian matrix: reflections to a real tridiagonal matrix, R = Q T Q^H
// (kernels/rows/tridiagonalize.h); QL steps on that, T = Z diag(w) Z^T (kernels/rows/tridiagonal.h); and V = Q Z, whose
// reflections are taken some at a time, as products (Bischof and Van Loan's WY form, 1987).
#pragma once

#include "linalg/load.h"

namespace loopos {

/// lower (n, n), its lower triangle; w (n) ascends; v (n, n), columns orthonormal, rows of both row_stride(n) numbers apart.
/// False where the iteration does not end.
template <class T>
bool eigenvectors(const T* lower, Index n, T* w, T* v);

}  // namespace loopos
