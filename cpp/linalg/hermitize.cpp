#include "linalg/hermitize.h"

#include "kernels/isa/complex.h"

namespace loopos {

template <class T>
void hermitize_forward(const Complex<T>* r, Index batch, Index n, Complex<T>* y) {
  each_matrix(batch, n * n, [&](Index b) {
    kernels::complex_kernels<T>().hermitian_sum(reals(r + b * n * n), 2 * n, n, T(0.5), reals(y + b * n * n), 2 * n);
  });
}

template <class T>
void hermitize_backward(const Complex<T>* dy, Index batch, Index n, Complex<T>* dr) {
  hermitize_forward(dy, batch, n, dr);
}

#define LOOPOS_INSTANTIATE(T)                                                    \
  template void hermitize_forward(const Complex<T>*, Index, Index, Complex<T>*); \
  template void hermitize_backward(const Complex<T>*, Index, Index, Complex<T>*);
LOOPOS_INSTANTIATE(float)
LOOPOS_INSTANTIATE(double)

}  // namespace loopos
