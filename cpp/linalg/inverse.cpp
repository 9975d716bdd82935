#include "linalg/inverse.h"

#include "kernels/isa/complex.h"
#include "linalg/factor.h"
#include "linalg/product.h"

namespace loopos {
namespace {
struct Inverse;
struct Gradient;
struct Half;
struct Expanded;
}  // namespace

template <class T>
void inverse_forward(const Complex<T>* r, Index batch, Index n, Complex<T>* y) {
  each_matrix(batch, n * n, [&](Index b) {
    const Factor<T> f = factor(r + b * n * n, n);
    T* inverse = matrix_scratch<T, Inverse>(n, n);
    invert(f, inverse);
    store_hermitian(inverse, n, true, {1, -f.exponent}, y + b * n * n);
  });
}

template <class T>
void inverse_backward(const Complex<T>* dy, const Complex<T>* r, Index batch, Index n, Complex<T>* dr) {
  const Index stride = row_stride(n);
  each_matrix(batch, n * n, [&](Index b) {
    const Factor<T> f = factor(r + b * n * n, n);
    T *y = matrix_scratch<T, Inverse>(n, n), *gradient = matrix_scratch<T, Gradient>(n, n),
      *half = matrix_scratch<T, Half>(n, n), *expanded = scratch<T, Expanded>(expanded_size(n, n));
    invert(f, y);
    kernels::complex_kernels<T>().mirror(y, stride, n, true, T(1), y, stride);
    const int exponent = load_hermitian_part("dy", dy + b * n * n, n, gradient);
    expand(y, stride, Stored::plain, n, n, T(-1), expanded);
    multiply(gradient, stride, n, n, expanded, n, false, half, stride);  // -D Y
    expand(half, stride, Stored::plain, n, n, T(1), expanded);
    multiply_lower(y, stride, n, n, expanded, false, gradient, stride);
    store_hermitian(gradient, n, false, {1, exponent - 2 * f.exponent}, dr + b * n * n);
  });
}

#define LOOPOS_INSTANTIATE(T)                                                  \
  template void inverse_forward(const Complex<T>*, Index, Index, Complex<T>*); \
  template void inverse_backward(const Complex<T>*, const Complex<T>*, Index, Index, Complex<T>*);
LOOPOS_INSTANTIATE(float)
LOOPOS_INSTANTIATE(double)

}  // namespace loopos
