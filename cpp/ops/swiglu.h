// Gated linear unit with silu (N. Shazeer, arXiv:2002.05202).
//   y = silu(gate) up,  dgate = dy up silu'(gate),  dup = dy silu(gate)
// Backward needs gate and up. Stability note and special values: ops/activation.h.
#pragma once

#include "core/check.h"

namespace loopos {

/// gate, up (rows, n) with row stride `stride`: they may be the halves of one (rows, 2n) matrix. y (rows, n)
/// contiguous.
template <class T>
void swiglu_forward(const T* gate, const T* up, Index rows, Index n, Index stride, T* y);

/// dy (rows, n) contiguous; dgate, dup with row stride `stride`; they may be gate and up themselves.
template <class T>
void swiglu_backward(const T* dy, const T* gate, const T* up, Index rows, Index n, Index stride, T* dgate, T* dup);

}  // namespace loopos
