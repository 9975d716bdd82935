#include "linalg/spectrum.h"

#include <cmath>
#include <limits>

#include "linalg/eigenvectors.h"
#include "linalg/product.h"

namespace loopos {
namespace {
struct Lower;
struct Values;
struct Vectors;
struct Expanded;
struct Between;
struct Gradient;
struct Inside;
struct Differences;
}  // namespace

template <class T>
double Spectrum<T>::eigenvalue(Index i) const {
  return std::ldexp(static_cast<double>(w[i]), exponent);
}

template <class T>
T Spectrum<T>::resolution() const {
  if (n == 0) return 0;
  return 4 * static_cast<T>(n) * std::numeric_limits<T>::epsilon() * std::max(std::abs(w[0]), std::abs(w[n - 1]));
}

namespace {

template <class T>
Spectrum<T> taken(const T* w, const Complex<T>* v, Index n) {
  T *vectors = matrix_scratch<T, Vectors>(n, n), *values = scratch<T, Values>(std::max<Index>(1, n)), top = 0;
  for (Index i = 0; i < n; ++i) {
    require_matrix(std::isfinite(w[i]) && (i == 0 || w[i] >= w[i - 1]),
                   "the eigenvalues must be finite and ascend, as eigh gives them");
    top = std::max(top, std::abs(w[i]));
  }
  const int exponent = top > 0 ? static_cast<int>(std::floor(std::ilogb(top) / 2.0)) * 2 : 0;
  for (Index i = 0; i < n; ++i) values[i] = std::ldexp(w[i], -exponent);
  scale_of("v", v, n, n);  // it refuses what is not finite
  for (Index i = 0; i < n; ++i)
    std::copy(reals(v) + 2 * i * n, reals(v) + 2 * (i + 1) * n, vectors + i * row_stride(n));
  return {values, vectors, n, exponent};
}

}  // namespace

template <class T>
Spectrum<T> spectrum(const Complex<T>* r, Index b, Index n, const Eigensystem<T>& known) {
  if (known.w) return taken(known.w + b * n, known.v + b * n * n, n);
  T *lower = matrix_scratch<T, Lower>(n, n), *v = matrix_scratch<T, Vectors>(n, n);
  T* w = scratch<T, Values>(std::max<Index>(1, n));
  const int exponent = load_hermitian("r", r + b * n * n, n, lower);
  if (n > 0)
    require_matrix(eigenvectors(lower, n, w, v),
                   "the eigenvalues of r did not come out in the iterations that they should take");
  return {w, v, n, exponent};
}

template <class T>
void from_eigenbasis(const T* v, Index n, T* b, T* y) {
  const Index stride = row_stride(n);
  kernels::complex_kernels<T>().mirror(b, stride, n, false, T(1), b, stride);
  T *expanded = scratch<T, Expanded>(expanded_size(n, n)), *between = matrix_scratch<T, Between>(n, n);
  expand(b, stride, Stored::plain, n, n, T(1), expanded);
  multiply(v, stride, n, n, expanded, n, false, between, stride);
  expand(v, stride, Stored::adjoint, n, n, T(1), expanded);
  multiply_lower(between, stride, n, n, expanded, false, y, stride);
}

template <class T>
void with_eigenvalues(const T* v, Index n, const double* values, T* y) {
  const Index stride = row_stride(n);
  T *expanded = scratch<T, Expanded>(expanded_size(n, n)), *scaled = matrix_scratch<T, Between>(n, n);
  for (Index i = 0; i < n; ++i)
    for (Index j = 0; j < n; ++j) {
      const T f = static_cast<T>(values[j]);
      scaled[i * stride + 2 * j] = f * v[i * stride + 2 * j];
      scaled[i * stride + 2 * j + 1] = f * v[i * stride + 2 * j + 1];
    }
  expand(v, stride, Stored::adjoint, n, n, T(1), expanded);
  multiply_lower(scaled, stride, n, n, expanded, false, y, stride);
}

namespace {

/// The lower triangle of y = V^H G V, G Hermitian, whole.
template <class T>
void to_eigenbasis(const T* v, Index n, const T* g, T* y) {
  const Index stride = row_stride(n);
  T *expanded = scratch<T, Expanded>(expanded_size(n, n)), *between = matrix_scratch<T, Between>(n, n);
  expand(v, stride, Stored::plain, n, n, T(1), expanded);
  multiply(g, stride, n, n, expanded, n, false, y, stride);
  kernels::complex_kernels<T>().transpose(v, stride, n, n, T(1), true, between, stride);
  expand(y, stride, Stored::plain, n, n, T(1), expanded);
  multiply_lower(between, stride, n, n, expanded, false, y, stride);
}

}  // namespace

template <class T>
void spectral_backward(const Spectrum<T>& s, const Complex<T>* dy,
                       const std::function<double(Index, Index)>& difference, Complex<T>* dr) {
  const Index n = s.n, stride = row_stride(n);
  T *gradient = matrix_scratch<T, Gradient>(n, n), *inside = matrix_scratch<T, Inside>(n, n);
  double* differences = scratch<double, Differences>(std::max<Index>(1, n * n));
  const int from_y = load_hermitian_part("dy", dy, n, gradient);
  to_eigenbasis(s.v, n, gradient, inside);
  double top = 0;
  for (Index i = 0; i < n; ++i)
    for (Index j = 0; j <= i; ++j) {
      const double f = difference(i, j);
      require_matrix(std::isfinite(f), "the derivative at eigenvalues ", s.eigenvalue(i), " and ", s.eigenvalue(j),
                     " is beyond the range of double");
      differences[i * n + j] = f;
      top = std::max(top, std::abs(f));
    }
  const int exponent = top > 0 ? std::ilogb(top) : 0;
  for (Index i = 0; i < n; ++i)
    for (Index j = 0; j <= i; ++j) {
      const T f = static_cast<T>(std::ldexp(differences[i * n + j], -exponent));
      inside[i * stride + 2 * j] *= f;
      inside[i * stride + 2 * j + 1] *= f;
    }
  from_eigenbasis(s.v, n, inside, gradient);
  store_hermitian(gradient, n, false, {1, from_y + exponent}, dr);
}

#define LOOPOS_INSTANTIATE(T)                                                                                        \
  template struct Spectrum<T>;                                                                                       \
  template Spectrum<T> spectrum(const Complex<T>*, Index, Index, const Eigensystem<T>&);                             \
  template void from_eigenbasis(const T*, Index, T*, T*);                                                            \
  template void with_eigenvalues(const T*, Index, const double*, T*);                                                \
  template void spectral_backward(const Spectrum<T>&, const Complex<T>*, const std::function<double(Index, Index)>&, \
                                  Complex<T>*);
LOOPOS_INSTANTIATE(float)
LOOPOS_INSTANTIATE(double)

}  // namespace loopos
