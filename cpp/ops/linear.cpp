#include "ops/linear.h"

namespace loopos {

using kernels::matrix;
using kernels::transpose;

template <class T>
void linear_forward(const T* x, const T* weight, const T* bias, Index rows, Index in, Index out, T* y,
                    const T* residual, const PackedWeight<T>* packed, Precision precision) {
  const auto a = matrix(x, rows, in);
  const kernels::Output<T> c{y, out};
  const kernels::Epilogue<T> epilogue{false, bias, residual, out};
  if (packed)
    gemm_packed(a, packed->forward, out, c, epilogue);
  else
    gemm(a, transpose(matrix(weight, out, in)), c, epilogue, precision);
}

template <class T>
void linear_backward(const T* dy, const T* weight, Index rows, Index in, Index out, T* dx,
                     const PackedWeight<T>* packed, Precision precision) {
  const auto a = matrix(dy, rows, out);
  const kernels::Output<T> c{dx, in};
  if (packed)
    gemm_packed(a, packed->backward, in, c);
  else
    gemm(a, matrix(weight, out, in), c, {}, precision);
}

template <class T>
void linear_weight_gradient(const T* dy, const T* x, Index rows, Index in, Index out, bool add, T* dweight,
                            Precision precision) {
  gemm(transpose(matrix(dy, rows, out)), matrix(x, rows, in), {dweight, in}, {add}, precision);
}

#define LOOPOS_INSTANTIATE(T)                                                                                    \
  template void linear_forward(const T*, const T*, const T*, Index, Index, Index, T*, const T*,                  \
                               const PackedWeight<T>*, Precision);                                               \
  template void linear_backward(const T*, const T*, Index, Index, Index, T*, const PackedWeight<T>*, Precision); \
  template void linear_weight_gradient(const T*, const T*, Index, Index, Index, bool, T*, Precision);
LOOPOS_INSTANTIATE(float)
LOOPOS_INSTANTIATE(double)

}  // namespace loopos
