// Systems of equations with Hermitian positive definite matrices, by the Cholesky factor: R X = B.
//   dB = R^-1 dX;  dR = the Hermitian part of -dB X^H
#pragma once

#include "linalg/matrix.h"

namespace loopos {

/// r (batch, n, n); b, x (batch, n, k). NotPositiveDefinite naming pivot and value.
template <class T>
void solve_forward(const Complex<T>* r, const Complex<T>* b, Index batch, Index n, Index k, Complex<T>* x);

/// dx, db (batch, n, k); dr Hermitian.
template <class T>
void solve_backward(const Complex<T>* dx, const Complex<T>* r, const Complex<T>* b, Index batch, Index n, Index k,
                    Complex<T>* dr, Complex<T>* db);

}  // namespace loopos
