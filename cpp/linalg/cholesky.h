// Cholesky factor of Hermitian positive definite matrices: R = L L^H, L lower triangular with a real positive diagonal.
//   dR = L^-H P L^-1, P the Hermitian matrix with the lower triangle of L^H dL / 2 and a real diagonal
// (Murray, Differentiation of the Cholesky decomposition, 2016; complex: the diagonal of L is real, so what dL says of
// its imaginary part counts for nothing.)
#pragma once

#include "linalg/matrix.h"

namespace loopos {

/// r, l (batch, n, n); zeros above the diagonal of l. NotPositiveDefinite naming pivot and value.
template <class T>
void cholesky_forward(const Complex<T>* r, Index batch, Index n, Complex<T>* l);

/// dl (batch, n, n), of which the lower triangle is read; dr Hermitian.
template <class T>
void cholesky_backward(const Complex<T>* dl, const Complex<T>* r, Index batch, Index n, Complex<T>* dr);

}  // namespace loopos
