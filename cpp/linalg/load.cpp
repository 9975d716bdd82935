#include "linalg/load.h"

#include <cmath>
#include <limits>

#include "kernels/isa/complex.h"
#include "kernels/isa/table.h"

namespace loopos {
namespace {

template <class T>
constexpr int kLargest = std::numeric_limits<T>::max_exponent - 2;  // 2^-kLargest to 2^kLargest are normal numbers

template <class T>
T power_of_two(int exponent) {
  return std::ldexp(T(1), exponent);
}

/// A scale as a number of T and what is left of it, an exponent.
template <class T>
struct Split {
  T factor;
  int rest;
};
template <class T>
Split<T> split(Scale scale) {
  int more = 0;
  const double mantissa = std::frexp(scale.factor, &more);
  const int exponent = scale.exponent + more;
  if (mantissa == 0 || std::abs(exponent) <= kLargest<T>) return {static_cast<T>(std::ldexp(mantissa, exponent)), 0};
  return {static_cast<T>(mantissa), exponent};
}

/// The last step of every way out: what of the scale was left, and the look at the result.
template <class T>
void finish(Complex<T>* out, Index numbers, int rest) {
  T* x = reals(out);
  if (rest != 0)
    for (Index i = 0; i < 2 * numbers; ++i) x[i] = std::ldexp(x[i], rest);
  require_matrix(std::isfinite(kernels::table<T>().max_abs(x, 2 * numbers)),
                 "the result is beyond the range of complex", 16 * sizeof(T), "; scale the input");
}

}  // namespace

template <class T>
int scale_of(const char* what, const Complex<T>* x, Index rows, Index columns) {
  const auto& k = kernels::table<T>();
  const Index numbers = 2 * rows * columns;
  const T top = k.max_abs(reals(x), numbers);
  if (!std::isfinite(top)) {
    const Index at = k.first_nonfinite(reals(x), numbers) / 2;
    require_matrix(false, what, " must be finite, got ", x[at].real(), x[at].imag() < 0 ? " - " : " + ",
                   std::abs(x[at].imag()), " i as element (", at / columns, ", ", at % columns, ")");
  }
  if (top == 0) return 0;
  const int exponent = static_cast<int>(std::floor(std::ilogb(top) / 2.0)) * 2;
  return std::max(-kLargest<T>, std::min(kLargest<T>, exponent));
}

template <class T>
double hermitian_tolerance() {
  return sizeof(T) == 4 ? 1e-4 : 1e-10;
}

template <class T>
int load_hermitian(const char* what, const Complex<T>* r, Index n, T* out) {
  const int exponent = scale_of(what, r, n, n);
  const T off = kernels::complex_kernels<T>().lower(reals(r), 2 * n, n, power_of_two<T>(-exponent), out, row_stride(n));
  require_matrix(off <= hermitian_tolerance<T>() * std::ldexp(1.0, exponent), what,
                 " must be Hermitian, but it and its adjoint differ by ", off, "; hermitize(", what,
                 ") is its Hermitian part");
  return exponent;
}

template <class T>
int load(const char* what, const Complex<T>* x, Index rows, Index columns, T* out) {
  const int exponent = scale_of(what, x, rows, columns);
  for (Index i = 0; i < rows; ++i)
    kernels::table<T>().scale(reals(x) + 2 * i * columns, 2 * columns, power_of_two<T>(-exponent),
                              out + i * row_stride(columns));
  return exponent;
}

template <class T>
int load_adjoint(const char* what, const Complex<T>* x, Index rows, Index columns, T* out) {
  const int exponent = scale_of(what, x, rows, columns);
  kernels::complex_kernels<T>().transpose(reals(x), 2 * columns, rows, columns, power_of_two<T>(-exponent), true, out,
                                          row_stride(rows));
  return exponent;
}

template <class T>
int load_hermitian_part(const char* what, const Complex<T>* x, Index n, T* out) {
  const int exponent = scale_of(what, x, n, n);
  kernels::complex_kernels<T>().hermitian_sum(reals(x), 2 * n, n, power_of_two<T>(-exponent - 1), out, row_stride(n));
  return exponent;
}

template <class T>
void store_hermitian(const T* x, Index n, bool upper, Scale scale, Complex<T>* out) {
  const Split<T> by = split<T>(scale);
  kernels::complex_kernels<T>().mirror(x, row_stride(n), n, upper, by.factor, reals(out), 2 * n);
  finish(out, n * n, by.rest);
}

template <class T>
void store(const T* x, Index rows, Index columns, Scale scale, Complex<T>* out) {
  const Split<T> by = split<T>(scale);
  for (Index i = 0; i < rows; ++i)
    kernels::table<T>().scale(x + i * row_stride(columns), 2 * columns, by.factor, reals(out) + 2 * i * columns);
  finish(out, rows * columns, by.rest);
}

template <class T>
void store_adjoint(const T* x, Index rows, Index columns, Scale scale, Complex<T>* out) {
  const Split<T> by = split<T>(scale);
  kernels::complex_kernels<T>().transpose(x, row_stride(rows), columns, rows, by.factor, true, reals(out), 2 * columns);
  finish(out, rows * columns, by.rest);
}

#define LOOPOS_INSTANTIATE(T)                                                  \
  template int scale_of(const char*, const Complex<T>*, Index, Index);         \
  template double hermitian_tolerance<T>();                                    \
  template int load_hermitian(const char*, const Complex<T>*, Index, T*);      \
  template int load(const char*, const Complex<T>*, Index, Index, T*);         \
  template int load_adjoint(const char*, const Complex<T>*, Index, Index, T*); \
  template int load_hermitian_part(const char*, const Complex<T>*, Index, T*); \
  template void store_hermitian(const T*, Index, bool, Scale, Complex<T>*);    \
  template void store(const T*, Index, Index, Scale, Complex<T>*);             \
  template void store_adjoint(const T*, Index, Index, Scale, Complex<T>*);
LOOPOS_INSTANTIATE(float)
LOOPOS_INSTANTIATE(double)

}  // namespace loopos
