#include "linalg/projector.h"

#include <algorithm>
#include <cmath>

#include "linalg/product.h"
#include "linalg/spectrum.h"

namespace loopos {
namespace {

struct Projection;
struct Expanded;
struct Gradient;
struct Few;
struct Inside;
struct Left;
struct Right;
struct Rest;

template <class T>
Spectrum<T> separated(const Complex<T>* r, Index b, Index n, Index k, const Eigensystem<T>& known) {
  const Spectrum<T> s = spectrum(r, b, n, known);
  if (k > 0 && k < n)
    require_matrix(s.w[n - k] - s.w[n - k - 1] > s.resolution(), "the ", k,
                   " largest eigenvalues are not apart from the rest: number ", k, " is ", s.eigenvalue(n - k),
                   " and the next ", s.eigenvalue(n - k - 1), ", equal but for rounding, so the span is not defined");
  return s;
}

}  // namespace

template <class T>
void projector_forward(const Complex<T>* r, Index batch, Index n, Index k, Complex<T>* p, const Eigensystem<T>& known) {
  const Index stride = row_stride(n);
  each_matrix(batch, n * n, [&](Index b) {
    const Spectrum<T> s = separated(r, b, n, k, known);
    T *projection = matrix_scratch<T, Projection>(n, n), *expanded = scratch<T, Expanded>(expanded_size(n, n));
    const T* signal = s.v + 2 * (n - k);
    expand(signal, stride, Stored::adjoint, k, n, T(1), expanded);
    multiply_lower(signal, stride, n, k, expanded, false, projection, stride);
    store_hermitian(projection, n, false, {1, 0}, p + b * n * n);
  });
}

namespace {

/// dr, given the Hermitian gradient, of which the result is 2^exponent times, and the side of fewer eigenvectors.
template <class T>
void across_the_gap(const Spectrum<T>& s, const T* gradient, Index k, int exponent, Complex<T>* dr) {
  const Index n = s.n, few = std::min(k, n - k), many = n - few, stride = row_stride(n), narrow = row_stride(few),
              wide = row_stride(2 * few);
  const bool signal = few == k;  // is the smaller side
  const Index of_few = signal ? many : 0, of_rest = signal ? 0 : few;
  T *expanded = scratch<T, Expanded>(std::max(expanded_size(n, few), expanded_size(2 * few, n))),
    *columns = matrix_scratch<T, Few>(n, few), *rest = matrix_scratch<T, Rest>(many, n),
    *inside = matrix_scratch<T, Inside>(many, few), *left = matrix_scratch<T, Left>(n, 2 * few),
    *right = matrix_scratch<T, Right>(n, 2 * few), *result = matrix_scratch<T, Projection>(n, n);
  expand(s.v + 2 * of_few, stride, Stored::plain, n, few, T(1), expanded);
  multiply(gradient, stride, n, n, expanded, few, false, columns, narrow);
  kernels::complex_kernels<T>().transpose(s.v + 2 * of_rest, stride, n, many, T(1), true, rest, stride);
  expand(columns, narrow, Stored::plain, n, few, T(1), expanded);
  multiply(rest, stride, many, n, expanded, few, false, inside, narrow);
  const double gap = static_cast<double>(s.w[n - k]) - static_cast<double>(s.w[n - k - 1]);
  const int top = -std::ilogb(gap);
  for (Index i = 0; i < many; ++i)
    for (Index j = 0; j < few; ++j) {
      const double apart = std::abs(static_cast<double>(s.w[of_rest + i]) - static_cast<double>(s.w[of_few + j]));
      const T f = static_cast<T>(std::ldexp(1 / apart, -top));
      inside[i * narrow + 2 * j] *= f;
      inside[i * narrow + 2 * j + 1] *= f;
    }
  expand(inside, narrow, Stored::plain, many, few, T(1), expanded);
  multiply(s.v + 2 * of_rest, stride, n, many, expanded, few, false, left, wide);  // Z, beside it U
  for (Index i = 0; i < n; ++i) {
    const T *u = s.v + i * stride + 2 * of_few, *z = left + i * wide;
    std::copy(u, u + 2 * few, left + i * wide + 2 * few);
    std::copy(u, u + 2 * few, right + i * wide);
    std::copy(z, z + 2 * few, right + i * wide + 2 * few);
  }
  expand(right, wide, Stored::adjoint, 2 * few, n, T(1), expanded);
  multiply_lower(left, wide, n, 2 * few, expanded, false, result, stride);
  store_hermitian(result, n, false, {1, exponent + top - s.exponent}, dr);
}

}  // namespace

template <class T>
void projector_backward(const Complex<T>* dp, const Complex<T>* r, Index batch, Index n, Index k, Complex<T>* dr,
                        const Eigensystem<T>& known) {
  each_matrix(batch, n * n, [&](Index b) {
    const Spectrum<T> s = separated(r, b, n, k, known);
    T* gradient = matrix_scratch<T, Gradient>(n, n);
    const int exponent = load_hermitian_part("dp", dp + b * n * n, n, gradient);
    if (k == 0 || k == n)
      std::fill(dr + b * n * n, dr + (b + 1) * n * n, Complex<T>(0));
    else
      across_the_gap(s, gradient, k, exponent, dr + b * n * n);
  });
}

#define LOOPOS_INSTANTIATE(T)                                                                                  \
  template void projector_forward(const Complex<T>*, Index, Index, Index, Complex<T>*, const Eigensystem<T>&); \
  template void projector_backward(const Complex<T>*, const Complex<T>*, Index, Index, Index, Complex<T>*,     \
                                   const Eigensystem<T>&);
LOOPOS_INSTANTIATE(float)
LOOPOS_INSTANTIATE(double)

}  // namespace loopos
