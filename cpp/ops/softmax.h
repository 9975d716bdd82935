// Softmax over the last axis.
//   y = e^(x - max x) / sum e^(x - max x)
// Stability: the row maximum is subtracted first, so the sum is at least 1 and no finite input can overflow. Only a row
// that is all -inf (fully masked) has no maximum to subtract; it is defined as zeros, and counted by its guard. A
// NaN or +inf makes its row NaN.
#pragma once

#include "core/check.h"

namespace loopos {

/// x, y (rows, n).
template <class T>
void softmax_forward(const T* x, Index rows, Index n, T* y);

/// dx = y (dy - sum dy y). Backward needs y alone. dy, y, dx (rows, n).
template <class T>
void softmax_backward(const T* dy, const T* y, Index rows, Index n, T* dx);

}  // namespace loopos
