#include "linalg/eigenvectors.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "linalg/product.h"

namespace loopos {
namespace {

struct Reflections;
struct Taus;
struct Between;
struct Diagonals;
struct Doubles;
struct Rotations;
struct Rows;
struct Order;
struct Sorted;
struct Gram;
struct Factor;
struct Times;
struct Right;
struct Expanded;

constexpr Index kReflections = 24;  // of one product

/// S with H(first)^T ... H(first + many - 1)^T = I - conj(V) S V^T, V's columns the v_k: upper triangular, rows
/// row_stride(kReflections) numbers apart. gram: v_i^T conj(v_j).
template <class T>
void block_factor(const T* tau, const T* gram, Index many, T* s) {
  const Index stride = row_stride(kReflections);
  const auto at = [&](const T* x, Index i, Index j) {
    return std::complex<double>(static_cast<double>(x[i * stride + 2 * j]),
                                static_cast<double>(x[i * stride + 2 * j + 1]));
  };
  std::fill(s, s + many * stride, T(0));
  for (Index j = 0; j < many; ++j) {
    const double re = static_cast<double>(tau[2 * j]), im = static_cast<double>(tau[2 * j + 1]);
    for (Index i = 0; i < j; ++i) {
      double sum_re = 0, sum_im = 0;
      for (Index k = i; k < j; ++k) {
        const auto a = at(s, i, k), b = at(gram, k, j);
        sum_re += a.real() * b.real() - a.imag() * b.imag();
        sum_im += a.real() * b.imag() + a.imag() * b.real();
      }
      s[i * stride + 2 * j] = static_cast<T>(sum_im * im - sum_re * re);
      s[i * stride + 2 * j + 1] = static_cast<T>(-sum_re * im - sum_im * re);
    }
    s[j * stride + 2 * j] = tau[2 * j];
    s[j * stride + 2 * j + 1] = tau[2 * j + 1];
  }
}

/// y (n, n) = y Q^T; row k of v is v_k, of length k.
template <class T>
void times_reflections(const T* v, const T* tau, Index n, T* y) {
  const Index stride = row_stride(n), few = row_stride(kReflections);
  T *gram = scratch<T, Gram>(kReflections * few), *s = scratch<T, Factor>(kReflections * few),
    *times = scratch<T, Times>(n * few), *right = scratch<T, Right>(kReflections * stride),
    *expanded = scratch<T, Expanded>(std::max(expanded_size(n, kReflections), expanded_size(kReflections, n)));
  for (Index first = 1; first < n; first += kReflections) {
    const Index many = std::min(kReflections, n - first), length = first + many - 1;
    const T* rows = v + first * stride;
    expand(rows, stride, Stored::adjoint, length, many, T(1), expanded);
    multiply(rows, stride, many, length, expanded, many, false, gram, few);
    multiply(y, stride, n, length, expanded, many, false, times, few);
    block_factor(tau + 2 * first, gram, many, s);
    expand(rows, stride, Stored::plain, many, length, T(-1), expanded);
    multiply(s, few, many, many, expanded, length, false, right, stride);
    expand(right, stride, Stored::plain, many, length, T(1), expanded);
    multiply(times, few, n, many, expanded, length, true, y, stride);
  }
}

}  // namespace

template <class T>
bool eigenvectors(const T* lower, Index n, T* w, T* v) {
  if (n == 0) return true;
  const auto& k = kernels::complex_kernels<T>();
  const Index stride = row_stride(n), real_stride = kernels::vector_stride(n);
  T *reflections = matrix_scratch<T, Reflections>(n, n), *tau = scratch<T, Taus>(2 * n),
    *diagonals = scratch<T, Diagonals>(2 * n), *z = scratch<T, Rows>(n * real_stride),
    *sorted = matrix_scratch<T, Sorted>(n, n);
  k.tridiagonalize(lower, stride, n, diagonals, diagonals + n, reflections, tau,
                   scratch<T, Between>(kernels::tridiagonalize_memory(n)));
  double* d = scratch<double, Doubles>(2 * n);
  std::copy(diagonals, diagonals + 2 * n, d);
  // Small rotations leave ever smaller numbers. From a large power of 2 these end at 0 before they are denormal and slow.
  const T one = std::ldexp(T(1), sizeof(T) == 4 ? 100 : 900), undo = 1 / one;
  std::fill(z, z + n * real_stride, T(0));
  for (Index i = 0; i < n; ++i) z[i * real_stride + i] = one;
  if (!k.tridiagonal_ql(d, d + n, n, scratch<T, Rotations>(kernels::rotations_memory(n)), real_stride, z)) return false;
  Index* order = scratch<Index, Order>(n);
  std::iota(order, order + n, Index{0});
  std::sort(order, order + n, [&](Index a, Index b) { return d[a] < d[b] || (d[a] == d[b] && a < b); });
  for (Index i = 0; i < n; ++i) {
    w[i] = static_cast<T>(d[order[i]]);
    for (Index j = 0; j < n; ++j) {
      sorted[i * stride + 2 * j] = z[order[i] * real_stride + j] * undo;
      sorted[i * stride + 2 * j + 1] = 0;
    }
  }
  times_reflections(reflections, tau, n, sorted);
  k.transpose(sorted, stride, n, n, T(1), false, v, stride);
  return true;
}

template bool eigenvectors(const float*, Index, float*, float*);
template bool eigenvectors(const double*, Index, double*, double*);

}  // namespace loopos
