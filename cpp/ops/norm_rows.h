// What layer norm and rms norm share: rms norm is layer norm with the mean held at zero.
//   y = (x - mean) rstd weight + bias,  rstd = 1 / sqrt(mean of (x - mean)^2 + eps)
//   with g = dy weight and xhat = (x - mean) rstd:
//     dx = rstd (g - [mean g] - xhat mean(g xhat)) + dskip      ([..] is absent in rms norm)
//     dweight += sum dy xhat
//     dbias += sum dy
// Stability: two passes with sums in double. The mean is kept in two parts up to the subtraction, in backward too (which
// computes it again from x: the saved mean is rounded). So forward and backward subtract the same mean, and equal numbers
// leave exactly zero, however large they are. A row whose deviations or rstd leave the range of T is done again in long
// double: every finite row gives the right finite result. xhat is never recovered by dividing by the weight, which may
// be zero.
#pragma once

#include "core/check.h"

namespace loopos {

enum class NormKind { layer, rms };

/// x, y (rows, n); weight, bias (n) may be null; mean, rstd (rows), mean null for rms.
template <class T>
void norm_forward(NormKind kind, const T* x, const T* weight, const T* bias, Index rows, Index n, double eps, T* y,
                  T* mean, T* rstd);

/// Adds into dweight and dbias; a null output skips its work.
template <class T>
void norm_backward(NormKind kind, const T* dy, const T* x, const T* weight, const T* rstd, const T* dskip, Index rows,
                   Index n, T* dx, T* dweight, T* dbias);

/// The same for a part of the rows, without the sums over all: each block of rows, which never crosses a multiple of
/// `sequence`, overwrites a slot of its own in dweight and dbias (null: skipped), `stride` apart; norm_slots tells how
/// many there are. Their column sums are the gradients.
Index norm_slots(Index rows, Index sequence, Index n);
template <class T>
void norm_backward_rows(NormKind kind, const T* dy, const T* x, const T* weight, const T* rstd, const T* dskip,
                        Index rows, Index sequence, Index n, T* dx, T* dweight, T* dbias, Index stride);

}  // namespace loopos
