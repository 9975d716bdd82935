// Frobenius norm of complex matrices: y = sqrt(sum |x|^2), in double, with everything divided by a power of 2 where squares
// would not fit (1e300, 1e-300). Finite input gives inf only where the norm itself is beyond the range of T.
//   dx = dy x / y, and 0 where x is 0
#pragma once

#include "linalg/matrix.h"

namespace loopos {

/// x (batch, size), y (batch). A NaN or inf in x goes through.
template <class T>
void frobenius_norm_forward(const Complex<T>* x, Index batch, Index size, T* y);

/// MatrixError where a number of x is not finite.
template <class T>
void frobenius_norm_backward(const T* dy, const Complex<T>* x, Index batch, Index size, Complex<T>* dx);

}  // namespace loopos
