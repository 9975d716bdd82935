#include "ops/linear.h"

namespace loopos {

using kernels::Trans;

template <class T>
void linear_forward(const T* x, const T* weight, const T* bias, Index rows, Index in, Index out, T* y,
                    const T* residual, const LinearPanels<T>* panels) {
  kernels::Extras<T> extras;
  extras.bias = bias;
  extras.residual = residual;
  extras.ld_residual = out;
  if (panels)
    kernels::gemm_panels(Trans::no, rows, out, x, in, panels->forward, y, out, extras);
  else
    kernels::gemm(Trans::no, Trans::yes, rows, out, in, x, in, weight, in, y, out, extras);
}

template <class T>
void linear_backward(const T* dy, const T* weight, Index rows, Index in, Index out, T* dx,
                     const LinearPanels<T>* panels) {
  if (panels)
    kernels::gemm_panels(Trans::no, rows, in, dy, out, panels->backward, dx, in, {});
  else
    kernels::gemm(Trans::no, Trans::no, rows, in, out, dy, out, weight, in, dx, in, false);
}

template <class T>
void linear_weight_gradient(const T* dy, const T* x, Index rows, Index in, Index out, bool add, T* dweight) {
  kernels::gemm(Trans::yes, Trans::no, out, in, rows, dy, out, x, in, dweight, in, add);
}

#define LOOPOS_INSTANTIATE(T)                                                                         \
  template void linear_forward(const T*, const T*, const T*, Index, Index, Index, T*, const T*,       \
                               const LinearPanels<T>*);                                               \
  template void linear_backward(const T*, const T*, Index, Index, Index, T*, const LinearPanels<T>*); \
  template void linear_weight_gradient(const T*, const T*, Index, Index, Index, bool, T*);
LOOPOS_INSTANTIATE(float)
LOOPOS_INSTANTIATE(double)

}  // namespace loopos
