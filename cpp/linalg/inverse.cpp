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

namespace {

/// y = 2^-exponent of the inverse, whole; returns the exponent.
template <class T>
int inverse_of(const Complex<T>* r, const Complex<T>* known, Index n, T* y) {
  const auto& mirror = kernels::complex_kernels<T>().mirror;
  const Index stride = row_stride(n);
  if (known) {
    const int exponent = load_hermitian("y", known, n, y);
    mirror(y, stride, n, false, T(1), y, stride);
    return exponent;
  }
  const Factor<T> f = factor(r, n);
  invert(f, y);
  mirror(y, stride, n, true, T(1), y, stride);
  return -f.exponent;
}

}  // namespace

template <class T>
void inverse_backward(const Complex<T>* dy, const Complex<T>* r, Index batch, Index n, Complex<T>* dr,
                      const Complex<T>* known) {
  const Index stride = row_stride(n);
  each_matrix(batch, n * n, [&](Index b) {
    T *y = matrix_scratch<T, Inverse>(n, n), *gradient = matrix_scratch<T, Gradient>(n, n),
      *half = matrix_scratch<T, Half>(n, n), *expanded = scratch<T, Expanded>(expanded_size(n, n));
    const int of_y = inverse_of(r + b * n * n, known ? known + b * n * n : nullptr, n, y);
    const int exponent = load_hermitian_part("dy", dy + b * n * n, n, gradient);
    expand(y, stride, Stored::plain, n, n, T(-1), expanded);
    multiply(gradient, stride, n, n, expanded, n, false, half, stride);  // -D Y
    expand(half, stride, Stored::plain, n, n, T(1), expanded);
    multiply_lower(y, stride, n, n, expanded, false, gradient, stride);
    store_hermitian(gradient, n, false, {1, exponent + 2 * of_y}, dr + b * n * n);
  });
}

#define LOOPOS_INSTANTIATE(T)                                                  \
  template void inverse_forward(const Complex<T>*, Index, Index, Complex<T>*); \
  template void inverse_backward(const Complex<T>*, const Complex<T>*, Index, Index, Complex<T>*, const Complex<T>*);
LOOPOS_INSTANTIATE(float)
LOOPOS_INSTANTIATE(double)

}  // namespace loopos
