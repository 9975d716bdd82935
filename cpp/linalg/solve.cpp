#include "linalg/solve.h"

#include "kernels/isa/complex.h"
#include "linalg/factor.h"
#include "linalg/product.h"

namespace loopos {
namespace {
struct Sides;
struct Swapped;
struct Adjoint;
struct Product;
struct Expanded;
}  // namespace

template <class T>
void solve_forward(const Complex<T>* r, const Complex<T>* b, Index batch, Index n, Index k, Complex<T>* x) {
  each_matrix(batch, n * (n + k), [&](Index i) {
    const Factor<T> f = factor(r + i * n * n, n);
    T* sides = matrix_scratch<T, Sides>(k, n);
    const int exponent = load_adjoint("b", b + i * n * k, n, k, sides);  // X^H = B^H L^-H L^-1
    solve_adjoint_right(f, k, false, sides);
    solve_right(f, k, false, sides);
    store_adjoint(sides, n, k, {1, exponent - f.exponent}, x + i * n * k);
  });
}

template <class T>
void solve_backward(const Complex<T>* dx, const Complex<T>* r, const Complex<T>* b, Index batch, Index n, Index k,
                    Complex<T>* dr, Complex<T>* db) {
  const Index stride = row_stride(n), half = k * stride;
  each_matrix(batch, n * (n + k), [&](Index i) {
    const Factor<T> f = factor(r + i * n * n, n);
    T *sides = matrix_scratch<T, Sides>(2 * k, n), *swapped = matrix_scratch<T, Swapped>(2 * k, n),
      *adjoint = matrix_scratch<T, Adjoint>(n, 2 * k), *product = matrix_scratch<T, Product>(n, n),
      *expanded = scratch<T, Expanded>(expanded_size(2 * k, n));
    const int from_x = load_adjoint("dx", dx + i * n * k, n, k, sides);
    const int from_b = load_adjoint("b", b + i * n * k, n, k, sides + half);
    solve_adjoint_right(f, 2 * k, false, sides);
    solve_right(f, 2 * k, false, sides);  // dB^H above X^H
    store_adjoint(sides, n, k, {1, from_x - f.exponent}, db + i * n * k);
    std::copy(sides, sides + half, swapped + half);
    std::copy(sides + half, sides + 2 * half, swapped);
    kernels::complex_kernels<T>().transpose(sides, stride, 2 * k, n, T(1), true, adjoint, row_stride(2 * k));
    expand(swapped, stride, Stored::plain, 2 * k, n, T(-0.5), expanded);
    multiply_lower(adjoint, row_stride(2 * k), n, 2 * k, expanded, false, product, stride);  // -(dB X^H + X dB^H) / 2
    store_hermitian(product, n, false, {1, from_x + from_b - 2 * f.exponent}, dr + i * n * n);
  });
}

#define LOOPOS_INSTANTIATE(T)                                                                                \
  template void solve_forward(const Complex<T>*, const Complex<T>*, Index, Index, Index, Complex<T>*);       \
  template void solve_backward(const Complex<T>*, const Complex<T>*, const Complex<T>*, Index, Index, Index, \
                               Complex<T>*, Complex<T>*);
LOOPOS_INSTANTIATE(float)
LOOPOS_INSTANTIATE(double)

}  // namespace loopos
