// Root mean square norm over the last axis (Zhang, Sennrich 2019): y = x rstd weight, rstd = 1 / sqrt(mean x^2 + eps).
// See ops/norm_rows.h.
#pragma once

#include "ops/norm_rows.h"

namespace loopos {

/// x, y (rows, n); weight (n) may be null; rstd (rows) may be null.
template <class T>
void rms_norm_forward(const T* x, const T* weight, Index rows, Index n, double eps, T* y, T* rstd) {
  norm_forward<T>(NormKind::rms, x, weight, nullptr, rows, n, eps, y, nullptr, rstd);
}

/// Overwrites dx, adds into dweight; a null output skips its work. dskip (rows, n), null or dx itself, is added into
/// dx.
template <class T>
void rms_norm_backward(const T* dy, const T* x, const T* weight, const T* rstd, const T* dskip, Index rows, Index n,
                       T* dx, T* dweight) {
  norm_backward<T>(NormKind::rms, dy, x, weight, rstd, dskip, rows, n, dx, dweight, nullptr);
}

}  // namespace loopos
