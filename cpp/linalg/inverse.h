// Inverse of Hermitian positive definite matrices, by the Cholesky factor: Y = L^-H L^-1.
//   dR = -Y D Y, D the Hermitian part of dY
// A system of equations is better solved (solve.h).
#pragma once

#include "linalg/matrix.h"

namespace loopos {

/// r, y (batch, n, n); y Hermitian. NotPositiveDefinite naming pivot and value.
template <class T>
void inverse_forward(const Complex<T>* r, Index batch, Index n, Complex<T>* y);

/// dr Hermitian. known: what inverse_forward gave for r, where that is at hand (r is not read then).
template <class T>
void inverse_backward(const Complex<T>* dy, const Complex<T>* r, Index batch, Index n, Complex<T>* dr,
                      const Complex<T>* known = nullptr);

}  // namespace loopos
