// Logarithm of the determinant of Hermitian positive definite matrices, by the Cholesky factor: y = 2 sum ln L_ii, summed
// in double. It is finite where the determinant is beyond any range.
//   dR = dy R^-1
#pragma once

#include "linalg/matrix.h"

namespace loopos {

/// r (batch, n, n), y (batch). NotPositiveDefinite naming pivot and value.
template <class T>
void logdet_forward(const Complex<T>* r, Index batch, Index n, T* y);

/// dy (batch); dr Hermitian.
template <class T>
void logdet_backward(const T* dy, const Complex<T>* r, Index batch, Index n, Complex<T>* dr);

}  // namespace loopos
