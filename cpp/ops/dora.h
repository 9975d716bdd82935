// Weight-decomposed low-rank adaptation (DoRA: Liu and others, 2024): the rows of the adapted weight have lengths of
// their own, which learn.
//   W' = m (W + scale B A) / c,  c = |W + scale B A| row by row,  y = gain z + bias [+ residual]
// with z = x (W + scale B A)^T and gain = m / c; columns that no such part acts on have gain 1. As in the paper (4.3) c
// is a constant in backward:
//   dz = gain dy,  dm = sum over rows of dy z / c
// y, z, dy, dz, residual (rows, out); gain, bias, c (out). c is summed in double. A row of length 0 gives a gain of inf
// or NaN, which goes through.
#pragma once

#include <functional>

#include "ops/low_rank.h"

namespace loopos {

/// Writes rows [first, first + rows) of a weight (out, in), however it is stored.
template <class T>
using ReadRows = std::function<void(Index first, Index rows, T* to)>;

/// c of the rows that one part acts on: c (width).
template <class T>
void dora_norms(const ReadRows<T>& weight, const LowRank<T>& part, Index in, double* c);

/// gain = magnitude / c and inverse = 1 / c, n of each.
template <class T>
void dora_gains(const T* magnitude, const double* c, Index n, T* gain, T* inverse);

/// y holds z, and is overwritten. bias and residual may be null; residual must not be y.
template <class T>
void dora_forward(const T* gain, const T* bias, const T* residual, Index rows, Index out, T* y);

/// Overwrites dz.
template <class T>
void dora_backward(const T* dy, const T* gain, Index rows, Index out, T* dz);

/// dm (width) of columns [first, first + width) is added to. inverse: 1 / c of all columns. z is overwritten.
template <class T>
void dora_magnitude_gradient(const T* dy, const T* inverse, Index rows, Index first, Index width, Index out, T* z,
                             T* dm);

/// What made an element of y, of which `z` is what was there; of dz; of dm, with z as it is left by the gradient.
template <class T>
void dora_operands(Operands& o, const T* z, const T* gain, const T* bias, const T* residual, Index out) {
  const Index at = o.row() * out + o.column();
  o.take("z", z + at, 1);
  o.take("gain", gain + o.column(), 1);
  if (bias) o.take("bias", bias + o.column(), 1);
  if (residual) o.take("residual", residual + at, 1);
}
template <class T>
void dora_backward_operands(Operands& o, const T* dy, const T* gain, Index out) {
  o.take("dy", dy + o.row() * out + o.column(), 1);
  o.take("gain", gain + o.column(), 1);
}

}  // namespace loopos
