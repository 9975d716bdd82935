// Linear layer.
//   y = x weight^T + bias [+ residual],  x (rows, in), weight (out, in), bias (out), y and residual (rows, out)
//   dx = dy weight,  dweight = dy^T x,  dbias = column sums of dy
// The bias gradient is summed in double over fixed blocks of rows (ops/column_sums.h).
#pragma once

#include "kernels/gemm/gemm.h"
#include "trace/operands.h"

namespace loopos {

/// A weight (out, in) packed for y = x weight^T and for dx = dy weight. Without it
/// the products have the same bits, those of at least fewest_piece_rows rows.
template <class T>
struct PackedWeight {
  kernels::PackedMatrix<T> forward{}, backward{};

  PackedWeight() = default;
  PackedWeight(const T* weight, Index in, Index out, Precision precision)
      : forward{transpose(kernels::matrix(weight, out, in)), nullptr, precision},
        backward{kernels::matrix(weight, out, in), nullptr, precision} {}
};

/// bias, residual and packed (of this weight and for this precision, packed since it last changed) may be null. y must
/// not be residual. precision, here and below: of float products; double ones are not affected.
template <class T>
void linear_forward(const T* x, const T* weight, const T* bias, Index rows, Index in, Index out, T* y,
                    const T* residual = nullptr, const PackedWeight<T>* packed = nullptr,
                    Precision precision = Precision::float32);

/// Overwrites dx.
template <class T>
void linear_backward(const T* dy, const T* weight, Index rows, Index in, Index out, T* dx,
                     const PackedWeight<T>* packed = nullptr, Precision precision = Precision::float32);

/// dweight: added to, or else overwritten.
template <class T>
void linear_weight_gradient(const T* dy, const T* x, Index rows, Index in, Index out, bool add, T* dweight,
                            Precision precision = Precision::float32);

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
