// Layer norm over the last axis (Ba, Kiros, Hinton 2016), biased variance, eps inside the root. Formulas, what is kept
// in double and the treatment of extreme rows: ops/norm_rows.h. Backward needs x, the weight and rstd; the mean is
// recomputed from x.
#pragma once

#include "ops/norm_rows.h"

namespace loopos {

/// x, y (rows, n); weight, bias (n) may be null; mean, rstd (rows) may be null.
template <class T>
void layer_norm_forward(const T* x, const T* weight, const T* bias, Index rows, Index n, double eps, T* y, T* mean,
                        T* rstd) {
  norm_forward(NormKind::layer, x, weight, bias, rows, n, eps, y, mean, rstd);
}

/// Overwrites dx, adds into dweight and dbias; a null output skips its work. dskip (rows, n), null or dx itself, is
/// added into dx: the gradient that comes around the norm by the skip connection.
template <class T>
void layer_norm_backward(const T* dy, const T* x, const T* weight, const T* mean, const T* rstd, const T* dskip,
                         Index rows, Index n, T* dx, T* dweight, T* dbias) {
  (void)mean;
  norm_backward(NormKind::layer, dy, x, weight, rstd, dskip, rows, n, dx, dweight, dbias);
}

}  // namespace loopos
