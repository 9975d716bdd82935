// Blend of two arrays of complex numbers: y = (1 - beta) a + beta b.
//   da = (1 - beta) dy;  db = beta dy;  dbeta = the real part of sum conj(dy) (b - a), over all numbers, in double
// NaN and inf go through as computed.
#pragma once

#include "linalg/matrix.h"

namespace loopos {

/// a, b, y (size).
template <class T>
void blend_forward(const Complex<T>* a, const Complex<T>* b, Index size, double beta, Complex<T>* y);

/// Returns dbeta.
template <class T>
double blend_backward(const Complex<T>* dy, const Complex<T>* a, const Complex<T>* b, Index size, double beta,
                      Complex<T>* da, Complex<T>* db);

}  // namespace loopos
