// Linear layer.
//   y = x weight^T + bias,  x (rows, in), weight (out, in), bias (out), y (rows, out)
//   dx = dy weight,  dweight += dy^T x,  dbias += column sums of dy
// Backward needs x and weight. The bias gradient is summed in double over fixed blocks of rows (ops/column_sums.h).
#pragma once

#include "core/check.h"

namespace loopos {

/// bias may be null.
template <class T>
void linear_forward(const T* x, const T* weight, const T* bias, Index rows, Index in, Index out, T* y);

/// Overwrites dx, adds into dweight and dbias; a null output (frozen, or not wanted) skips its work.
template <class T>
void linear_backward(const T* dy, const T* x, const T* weight, Index rows, Index in, Index out, T* dx, T* dweight,
                     T* dbias);

}  // namespace loopos
