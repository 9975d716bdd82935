// Logarithm of the sum of exponentials over the last axis.
//   y = max x + log sum e^(x - max x)
// Stability: as log_softmax; the sum of maximum and logarithm is taken in double and rounded once. A row that is all
// -inf gives -inf, and is counted by its guard; its gradient is zero, as softmax is there. A +inf gives +inf (its
// gradient is NaN: inf - inf), a NaN gives NaN.
#pragma once

#include "core/check.h"

namespace loopos {

/// x (rows, n), y (rows).
template <class T>
void logsumexp_forward(const T* x, Index rows, Index n, T* y);

/// dx = dy softmax(x). The softmax is computed anew from x: e^(x - y) would carry the rounding of y. dy (rows); x, dx
/// (rows, n).
template <class T>
void logsumexp_backward(const T* dy, const T* x, Index rows, Index n, T* dx);

}  // namespace loopos
