#include "linalg/spectral_function.h"

#include <cmath>

#include "linalg/spectrum.h"

namespace loopos {
namespace {

struct Result;
struct Values;

double value_at(SpectralFunction function, double w) {
  switch (function) {
    case SpectralFunction::log:
      return std::log(w);
    case SpectralFunction::sqrt:
      return std::sqrt(w);
    case SpectralFunction::inverse_sqrt:
      return 1 / std::sqrt(w);
    case SpectralFunction::exp:
      return std::exp(w);
  }
  return 0;
}

/// (f(a) - f(b)) / (a - b) for a >= b, f'(a) where they are equal.
double divided_difference(SpectralFunction function, double a, double b) {
  const double gap = a - b;
  switch (function) {
    case SpectralFunction::log:
      if (gap == 0) return 1 / a;
      return a > 2 * b ? (std::log(a) - std::log(b)) / gap : std::log1p(gap / b) / gap;
    case SpectralFunction::sqrt:
      return 1 / (std::sqrt(a) + std::sqrt(b));
    case SpectralFunction::inverse_sqrt:
      return -1 / std::sqrt(a) / std::sqrt(b) / (std::sqrt(a) + std::sqrt(b));
    case SpectralFunction::exp:
      if (gap == 0) return std::exp(a);
      return gap > 1 ? (std::exp(a) - std::exp(b)) / gap : std::exp(b) * std::expm1(gap) / gap;
  }
  return 0;
}

template <class T>
void require_domain(SpectralFunction function, const Spectrum<T>& s) {
  if (function == SpectralFunction::exp || s.n == 0 || s.w[0] > 0) return;
  throw NotPositiveDefinite(
      cat("r must be positive definite, but eigenvalue 0 of ", s.n, " is ", s.eigenvalue(0), "; load its diagonal"), 0,
      s.eigenvalue(0));
}

}  // namespace

template <class T>
void spectral_function_forward(const Complex<T>* r, Index batch, Index n, SpectralFunction function, Complex<T>* y,
                               const Eigensystem<T>& known) {
  each_matrix(batch, n * n, [&](Index b) {
    const Spectrum<T> s = spectrum(r, b, n, known);
    require_domain(function, s);
    T* result = matrix_scratch<T, Result>(n, n);
    double *values = scratch<double, Values>(std::max<Index>(1, n)), top = 0;
    for (Index i = 0; i < n; ++i) {
      values[i] = value_at(function, s.eigenvalue(i));
      require_matrix(std::isfinite(values[i]), "the function of eigenvalue ", s.eigenvalue(i),
                     " is beyond the range of double");
      top = std::max(top, std::abs(values[i]));
    }
    const int exponent = top > 0 ? std::ilogb(top) : 0;
    for (Index i = 0; i < n; ++i) values[i] = std::ldexp(values[i], -exponent);
    with_eigenvalues(s.v, n, values, result);
    store_hermitian(result, n, false, {1, exponent}, y + b * n * n);
  });
}

template <class T>
void spectral_function_backward(const Complex<T>* dy, const Complex<T>* r, Index batch, Index n,
                                SpectralFunction function, Complex<T>* dr, const Eigensystem<T>& known) {
  each_matrix(batch, n * n, [&](Index b) {
    const Spectrum<T> s = spectrum(r, b, n, known);
    require_domain(function, s);
    double* w = scratch<double, Values>(std::max<Index>(1, n));
    for (Index i = 0; i < n; ++i) w[i] = s.eigenvalue(i);
    spectral_backward(
        s, dy + b * n * n, [&](Index i, Index j) { return divided_difference(function, w[i], w[j]); }, dr + b * n * n);
  });
}

#define LOOPOS_INSTANTIATE(T)                                                                                    \
  template void spectral_function_forward(const Complex<T>*, Index, Index, SpectralFunction, Complex<T>*,        \
                                          const Eigensystem<T>&);                                                \
  template void spectral_function_backward(const Complex<T>*, const Complex<T>*, Index, Index, SpectralFunction, \
                                           Complex<T>*, const Eigensystem<T>&);
LOOPOS_INSTANTIATE(float)
LOOPOS_INSTANTIATE(double)

}  // namespace loopos
