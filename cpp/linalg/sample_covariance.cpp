#include "linalg/sample_covariance.h"

#include "kernels/isa/complex.h"
#include "linalg/product.h"

namespace loopos {
namespace {
struct Snapshots;
struct Transposed;
struct Covariance;
struct Expanded;
struct Mean;
constexpr Index kLengths = 256;  // snapshots of one product

/// x (length, n) less the mean of its rows.
template <class T>
void subtract_mean(Index length, Index n, T* x) {
  const Index stride = row_stride(n);
  double* mean = scratch<double, Mean>(std::max<Index>(1, 2 * n));
  std::fill(mean, mean + 2 * n, 0.0);
  for (Index l = 0; l < length; ++l)
    for (Index i = 0; i < 2 * n; ++i) mean[i] += static_cast<double>(x[l * stride + i]);
  for (Index i = 0; i < 2 * n; ++i) mean[i] /= static_cast<double>(length);
  for (Index l = 0; l < length; ++l)
    for (Index i = 0; i < 2 * n; ++i)
      x[l * stride + i] = static_cast<T>(static_cast<double>(x[l * stride + i]) - mean[i]);
}

}  // namespace

template <class T>
void sample_covariance_forward(const Complex<T>* snapshots, Index batch, Index length, Index n, bool center,
                               Complex<T>* r) {
  const auto& k = kernels::complex_kernels<T>();
  const Index stride = row_stride(n);
  each_matrix(batch, n * (n + length), [&](Index b) {
    T *a = matrix_scratch<T, Snapshots>(length, n), *transposed = matrix_scratch<T, Transposed>(n, kLengths),
      *covariance = matrix_scratch<T, Covariance>(n, n), *expanded = scratch<T, Expanded>(expanded_size(kLengths, n));
    const int exponent = load("snapshots", snapshots + b * length * n, length, n, a);
    if (center) subtract_mean(length, n, a);
    for (Index l = 0; l < length; l += kLengths) {
      const Index many = std::min(kLengths, length - l);
      k.transpose(a + l * stride, stride, many, n, T(1) / static_cast<T>(length), false, transposed,
                  row_stride(kLengths));
      expand(a + l * stride, stride, Stored::conjugate, many, n, T(1), expanded);
      multiply_lower(transposed, row_stride(kLengths), n, many, expanded, l > 0, covariance, stride);
    }
    store_hermitian(covariance, n, false, {1, 2 * exponent}, r + b * n * n);
  });
}

template <class T>
void sample_covariance_backward(const Complex<T>* dr, const Complex<T>* snapshots, Index batch, Index length, Index n,
                                bool center, Complex<T>* dsnapshots) {
  const Index stride = row_stride(n);
  each_matrix(batch, n * (n + length), [&](Index b) {
    T *a = matrix_scratch<T, Snapshots>(length, n), *da = matrix_scratch<T, Transposed>(length, n),
      *gradient = matrix_scratch<T, Covariance>(n, n), *expanded = scratch<T, Expanded>(expanded_size(n, n));
    const int from_a = load("snapshots", snapshots + b * length * n, length, n, a);
    const int from_r = load_hermitian_part("dr", dr + b * n * n, n, gradient);
    if (center) subtract_mean(length, n, a);
    // row l of the result is ((dR + dR^H) a_l / L)^T = a_l^T times the conjugate, as the Hermitian part is its adjoint
    expand(gradient, stride, Stored::conjugate, n, n, T(1), expanded);
    multiply(a, stride, length, n, expanded, n, false, da, stride);
    if (center) subtract_mean(length, n, da);
    store(da, length, n, {2.0 / static_cast<double>(length), from_a + from_r}, dsnapshots + b * length * n);
  });
}

#define LOOPOS_INSTANTIATE(T)                                                                               \
  template void sample_covariance_forward(const Complex<T>*, Index, Index, Index, bool, Complex<T>*);       \
  template void sample_covariance_backward(const Complex<T>*, const Complex<T>*, Index, Index, Index, bool, \
                                           Complex<T>*);
LOOPOS_INSTANTIATE(float)
LOOPOS_INSTANTIATE(double)

}  // namespace loopos
