#include "linalg/frobenius_norm.h"

#include <cmath>

#include "kernels/isa/table.h"

namespace loopos {
namespace {

/// norm = mantissa 2^exponent; exponent is 0 unless squares would not fit.
struct Norm {
  double mantissa;
  int exponent;
};

template <class T>
Norm norm_of(const T* x, Index n) {
  const auto& k = kernels::table<T>();
  const double total = k.sum_squares(x, n);
  // Squares that vanished are below 2^-1074, so they cannot matter to a sum of this size.
  if (total > 1e-250 && total < 1e300) return {std::sqrt(total), 0};
  const double top = static_cast<double>(k.max_abs(x, n));
  if (top == 0 || !std::isfinite(top)) return {top, 0};
  const int exponent = std::ilogb(top);
  double sum = 0;
  for (Index i = 0; i < n; ++i) {
    const double v = std::ldexp(static_cast<double>(x[i]), -exponent);
    sum += v * v;
  }
  return {std::sqrt(sum), exponent};
}

}  // namespace

template <class T>
void frobenius_norm_forward(const Complex<T>* x, Index batch, Index size, T* y) {
  each_matrix(batch, size, [&](Index b) {
    const Norm norm = norm_of(reals(x + b * size), 2 * size);
    y[b] = static_cast<T>(std::ldexp(norm.mantissa, norm.exponent));
  });
}

template <class T>
void frobenius_norm_backward(const T* dy, const Complex<T>* x, Index batch, Index size, Complex<T>* dx) {
  each_matrix(batch, size, [&](Index b) {
    const T* from = reals(x + b * size);
    T* out = reals(dx + b * size);
    const Norm norm = norm_of(from, 2 * size);
    require_matrix(std::isfinite(norm.mantissa), "x must be finite to have a gradient, its norm is ", norm.mantissa);
    const double factor = norm.mantissa > 0 ? static_cast<double>(dy[b]) / norm.mantissa : 0;
    const T direct = static_cast<T>(factor);
    // Where the factor is a normal number of T one multiplication has the rounding of one.
    if (norm.exponent == 0 && (std::isnormal(direct) || factor == 0))
      return kernels::table<T>().scale(from, 2 * size, direct, out);
    for (Index i = 0; i < 2 * size; ++i)
      out[i] = static_cast<T>(std::ldexp(static_cast<double>(from[i]), -norm.exponent) * factor);
  });
}

#define LOOPOS_INSTANTIATE(T)                                                \
  template void frobenius_norm_forward(const Complex<T>*, Index, Index, T*); \
  template void frobenius_norm_backward(const T*, const Complex<T>*, Index, Index, Complex<T>*);
LOOPOS_INSTANTIATE(float)
LOOPOS_INSTANTIATE(double)

}  // namespace loopos
