// Hermitian part of square matrices: y = (r + r^H) / 2. It is its own backward. NaN and inf go through as computed.
#pragma once

#include "linalg/matrix.h"

namespace loopos {

/// r, y (batch, n, n).
template <class T>
void hermitize_forward(const Complex<T>* r, Index batch, Index n, Complex<T>* y);
template <class T>
void hermitize_backward(const Complex<T>* dy, Index batch, Index n, Complex<T>* dr);

}  // namespace loopos
