#include "linalg/cholesky.h"

#include "kernels/isa/complex.h"
#include "linalg/factor.h"
#include "linalg/product.h"

namespace loopos {
namespace {
struct Gradient;
struct Adjoint;
struct Expanded;
struct P;
}  // namespace

template <class T>
void cholesky_forward(const Complex<T>* r, Index batch, Index n, Complex<T>* l) {
  each_matrix(batch, n * n, [&](Index b) {
    const Factor<T> f = factor(r + b * n * n, n);
    store(f.l, n, n, {1, f.exponent / 2}, l + b * n * n);
  });
}

template <class T>
void cholesky_backward(const Complex<T>* dl, const Complex<T>* r, Index batch, Index n, Complex<T>* dr) {
  const auto& k = kernels::complex_kernels<T>();
  const Index stride = row_stride(n);
  each_matrix(batch, n * n, [&](Index b) {
    const Factor<T> f = factor(r + b * n * n, n);
    T *gradient = matrix_scratch<T, Gradient>(n, n), *adjoint = matrix_scratch<T, Adjoint>(n, n),
      *p = matrix_scratch<T, P>(n, n), *expanded = scratch<T, Expanded>(expanded_size(n, n));
    const int exponent = load("dl", dl + b * n * n, n, n, gradient);
    for (Index i = 0; i < n; ++i) std::fill(gradient + i * stride + 2 * (i + 1), gradient + (i + 1) * stride, T(0));
    k.transpose(f.l, stride, n, n, T(1), true, adjoint, stride);
    expand(gradient, stride, Stored::plain, n, n, T(1), expanded);
    multiply_lower(adjoint, stride, n, n, expanded, false, p, stride);
    k.mirror(p, stride, n, false, T(0.5), p, stride);
    solve_right(f, n, false, p);                                // P L^-1
    k.transpose(p, stride, n, n, T(1), true, adjoint, stride);  // L^-H P
    solve_right(f, n, true, adjoint);
    store_hermitian(adjoint, n, true, {1, exponent - f.exponent / 2}, dr + b * n * n);
  });
}

#define LOOPOS_INSTANTIATE(T)                                                   \
  template void cholesky_forward(const Complex<T>*, Index, Index, Complex<T>*); \
  template void cholesky_backward(const Complex<T>*, const Complex<T>*, Index, Index, Complex<T>*);
LOOPOS_INSTANTIATE(float)
LOOPOS_INSTANTIATE(double)

}  // namespace loopos
