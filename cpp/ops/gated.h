// Gated linear units (N. Shazeer, arXiv:2002.05202), f an activation: silu gives swiglu, gelu geglu.
//   y = f(gate) up,  dgate = dy up f'(gate),  dup = dy f(gate)
// Backward needs gate and up. Stability note and special values: ops/activation.h.
#pragma once

#include "ops/activation.h"

namespace loopos {

/// gate, up (rows, n) with row stride `stride`: they may be the halves of one (rows, 2n) matrix. y (rows, n)
/// contiguous.
template <class T>
void gated_forward(Activation f, const T* gate, const T* up, Index rows, Index n, Index stride, T* y);

/// dy (rows, n) contiguous; dgate, dup with row stride `stride`; they may be gate and up themselves.
template <class T>
void gated_backward(Activation f, const T* dy, const T* gate, const T* up, Index rows, Index n, Index stride, T* dgate,
                    T* dup);

/// gate, up as given to gated_forward. dy null: of y; else of a gradient, whose rows hold dgate and then dup.
template <class T>
void gated_operands(Operands& o, const T* gate, const T* up, Index n, Index stride, const T* dy = nullptr) {
  const Index column = o.column() % n, at = o.row() * stride + column;
  o.set("hidden", n);
  o.take("gate", gate + at, 1);
  o.take("up", up + at, 1);
  if (dy) o.take("dy", dy + o.row() * n + column, 1);
}

}  // namespace loopos
