// Logarithm of softmax over the last axis.
//   y = (x - max x) - log sum e^(x - max x)
// Stability: the maximum is subtracted first and the sum is taken in double, so that the two subtractions are the only
// roundings that depend on the size of x. A row that is all -inf gives -inf everywhere, the logarithm of softmax's
// zeros, and is counted by its guard. A NaN or +inf makes its row NaN.
#pragma once

#include "core/check.h"

namespace loopos {

/// x, y (rows, n).
template <class T>
void log_softmax_forward(const T* x, Index rows, Index n, T* y);

/// dx = dy - e^y sum dy. Backward needs y alone. dy, y, dx (rows, n); dx may be dy or y.
template <class T>
void log_softmax_backward(const T* dy, const T* y, Index rows, Index n, T* dx);

}  // namespace loopos
