// Linear layer.
//   y = x weight^T + bias [+ residual],  x (rows, in), weight (out, in), bias (out), y and residual (rows, out)
//   dx = dy weight,  dweight = dy^T x,  dbias = column sums of dy
// The bias gradient is summed in double over fixed blocks of rows (ops/column_sums.h).
#pragma once

#include "kernels/gemm/gemm.h"
#include "trace/operands.h"

namespace loopos {

/// A weight (out, in) packed for y = x weight^T and for dx = dy weight. The bits of the products are those without it.
template <class T>
struct PackedWeight {
  kernels::PackedMatrix<T> forward{}, backward{};

  PackedWeight() = default;
  PackedWeight(const T* weight, Index in, Index out)
      : forward{transpose(kernels::matrix(weight, out, in)), nullptr},
        backward{kernels::matrix(weight, out, in), nullptr} {}
};

/// bias, residual and packed (of this weight, packed since it last changed) may be null. y must not be residual.
template <class T>
void linear_forward(const T* x, const T* weight, const T* bias, Index rows, Index in, Index out, T* y,
                    const T* residual = nullptr, const PackedWeight<T>* packed = nullptr);

/// Overwrites dx.
template <class T>
void linear_backward(const T* dy, const T* weight, Index rows, Index in, Index out, T* dx,
                     const PackedWeight<T>* packed = nullptr);

/// dweight: added to, or else overwritten.
template <class T>
void linear_weight_gradient(const T* dy, const T* x, Index rows, Index in, Index out, bool add, T* dweight);

/// What made an element of y.
template <class T>
void linear_operands(Operands& o, const T* x, const T* weight, const T* bias, Index in) {
  o.take("x", x + o.row() * in, in);
  o.take("weight", weight + o.column() * in, in);
  if (bias) o.take("bias", bias + o.column(), 1);
}
/// Of dx. dy begins at row `first`.
template <class T>
void linear_backward_operands(Operands& o, const T* dy, const T* weight, Index in, Index out, Index first = 0) {
  o.take("dy", dy + (o.row() - first) * out, out);
  o.take("weight", weight + o.column(), out, in);
}
/// Of dweight.
template <class T>
void linear_weight_gradient_operands(Operands& o, const T* dy, const T* x, Index rows, Index in, Index out) {
  o.take("dy", dy + o.row(), rows, out);
  o.take("x", x + o.column(), rows, in);
}

}  // namespace loopos
