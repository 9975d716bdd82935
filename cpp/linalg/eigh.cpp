#include "linalg/eigh.h"

#include <cmath>

#include "kernels/isa/complex.h"
#include "linalg/product.h"
#include "linalg/spectrum.h"

namespace loopos {
namespace {

struct Gradient;
struct Adjoint;
struct Expanded;
struct Inside;
struct M;
struct Squares;
struct Values;

constexpr int kOfZero = -100000;  // the exponent of 0

template <class T>
constexpr double kTolerance = sizeof(T) == 4 ? 1e-3 : 1e-8;

/// What B is made of: M (of 2^-from_v dV), the gradients of the eigenvalues, and what counts as 0 of either.
template <class T>
struct Parts {
  const Spectrum<T>& s;
  const T* m;
  const T* dw;
  int from_v;
  double zero_m, zero_dw;

  Complex<T> at(Index i, Index j) const {
    const T* x = m + i * row_stride(s.n) + 2 * j;
    return {x[0], x[1]};
  }
  /// M_ij - conj(M_ji)
  Complex<T> turn(Index i, Index j) const { return at(i, j) - std::conj(at(j, i)); }
};

template <class T>
void refuse_phases(const Parts<T>& p) {
  for (Index i = 0; i < p.s.n; ++i)
    require_matrix(std::abs(p.at(i, i).imag()) <= p.zero_m, "dv depends on the phase of eigenvector ", i,
                   ", which nothing fixes: the imaginary part of v^H dv is ",
                   std::ldexp(static_cast<double>(p.at(i, i).imag()), p.from_v),
                   "; a loss must be of what does not change with it, such as v v^H or |v|");
}

template <class T>
void require_equal(bool fine, const Spectrum<T>& s, Index i, Index j, const char* why) {
  require_matrix(fine, "eigenvalues ", j, " and ", i, " are equal (", s.eigenvalue(j), "), and ", why,
                 "; for a function of the eigenvalues or the span of the largest use spectral_function or projector");
}
template <class T>
void require_same(const Spectrum<T>& s, const T* dw, double zero, Index i, Index j) {
  require_equal(std::abs(static_cast<double>(dw[i]) - static_cast<double>(dw[j])) <= zero, s, i, j,
                "dw differs between them, so that it depends on which is which");
}

template <class T>
void refuse_equal(const Parts<T>& p, Index i, Index j) {
  const Complex<T> both = p.at(i, j) + std::conj(p.at(j, i));
  require_equal(std::abs(p.turn(i, j)) <= p.zero_m, p.s, i, j, "dv depends on which vectors of their span were taken");
  require_same(p.s, p.dw, p.zero_dw, i, j);
  require_equal(std::abs(static_cast<double>(p.dw[i])) <= p.zero_dw || std::abs(both) <= p.zero_m, p.s, i, j,
                "the loss depends on them and on their vectors, whose common derivative dw and dv do not tell");
}

/// The length of the longest column of x (n, n).
template <class T>
double longest_column(const T* x, Index n) {
  double *squares = scratch<double, Squares>(std::max<Index>(1, n)), top = 0;
  std::fill(squares, squares + n, 0.0);
  for (Index i = 0; i < n; ++i)
    for (Index j = 0; j < n; ++j) {
      const double re = static_cast<double>(x[i * row_stride(n) + 2 * j]),
                   im = static_cast<double>(x[i * row_stride(n) + 2 * j + 1]);
      squares[j] += re * re + im * im;
    }
  for (Index j = 0; j < n; ++j) top = std::max(top, squares[j]);
  return std::sqrt(top);
}

/// The largest |dw|.
template <class T>
double largest(const T* dw, Index n) {
  double top = 0;
  for (Index i = 0; i < n; ++i) {
    require_matrix(std::isfinite(dw[i]), "dw must be finite, got ", dw[i], " as element (", i, ",)");
    top = std::max(top, std::abs(static_cast<double>(dw[i])));
  }
  return top;
}

template <class T>
void backward_of_values(const T* dw, const Spectrum<T>& s, Complex<T>* dr) {
  const Index n = s.n;
  const double top = largest(dw, n), zero = kTolerance<T> * top, close = static_cast<double>(s.resolution());
  for (Index i = 0; i < n; ++i)
    for (Index j = i - 1; j >= 0 && static_cast<double>(s.w[i]) - static_cast<double>(s.w[j]) <= close; --j)
      require_same(s, dw, zero, i, j);
  const int exponent = top > 0 ? std::ilogb(top) : 0;
  double* values = scratch<double, Values>(std::max<Index>(1, n));
  for (Index i = 0; i < n; ++i) values[i] = std::ldexp(static_cast<double>(dw[i]), -exponent);
  T* result = matrix_scratch<T, Inside>(n, n);
  with_eigenvalues(s.v, n, values, result);
  store_hermitian(result, n, false, {1, exponent}, dr);
}

template <class T>
void backward_of_both(const T* dw, const Complex<T>* dv, const Spectrum<T>& s, Complex<T>* dr) {
  const Index n = s.n, stride = row_stride(n);
  T *gradient = matrix_scratch<T, Gradient>(n, n), *adjoint = matrix_scratch<T, Adjoint>(n, n),
    *inside = matrix_scratch<T, Inside>(n, n), *m = matrix_scratch<T, M>(n, n),
    *expanded = scratch<T, Expanded>(expanded_size(n, n));
  const int from_v = load("dv", dv, n, n, gradient);
  const double top_dw = largest(dw, n), top_dv = longest_column(gradient, n);
  kernels::complex_kernels<T>().transpose(s.v, stride, n, n, T(1), true, adjoint, stride);
  expand(gradient, stride, Stored::plain, n, n, T(1), expanded);
  multiply(adjoint, stride, n, n, expanded, n, false, m, stride);
  const Parts<T> parts{s, m, dw, from_v, kTolerance<T> * top_dv, kTolerance<T> * top_dw};
  refuse_phases(parts);
  // B is made of dw, and of differences of M by those of s.w times 2^of_dv. Both are kept at the larger of the two powers.
  const int from_dw = top_dw > 0 ? std::ilogb(top_dw) : kOfZero, of_dv = top_dv > 0 ? from_v - s.exponent : kOfZero;
  const int larger = std::max(from_dw, of_dv), exponent = larger == kOfZero ? 0 : larger;
  const double of_turn = std::ldexp(0.5, of_dv - exponent), close = static_cast<double>(s.resolution());
  for (Index i = 0; i < n; ++i) {
    T* row = inside + i * stride;  // of its lower triangle
    row[2 * i] = static_cast<T>(std::ldexp(static_cast<double>(dw[i]), -exponent));
    row[2 * i + 1] = 0;
    for (Index j = 0; j < i; ++j) {
      const double gap = static_cast<double>(s.w[j]) - static_cast<double>(s.w[i]);
      double by = 0;
      if (std::abs(gap) <= close)
        refuse_equal(parts, i, j);
      else
        by = of_turn / gap;
      const Complex<T> turn = parts.turn(i, j);
      row[2 * j] = static_cast<T>(static_cast<double>(turn.real()) * by);
      row[2 * j + 1] = static_cast<T>(static_cast<double>(turn.imag()) * by);
    }
  }
  from_eigenbasis(s.v, n, inside, gradient);
  store_hermitian(gradient, n, false, {1, exponent}, dr);
}

}  // namespace

template <class T>
void eigh_forward(const Complex<T>* r, Index batch, Index n, T* w, Complex<T>* v) {
  each_matrix(batch, n * n, [&](Index b) {
    const Spectrum<T> s = spectrum(r, b, n);
    for (Index i = 0; i < n; ++i) {
      w[b * n + i] = std::ldexp(s.w[i], s.exponent);
      require_matrix(std::isfinite(w[b * n + i]), "eigenvalue ", i, " is beyond the range of complex", 16 * sizeof(T),
                     "; scale the input");
    }
    store(s.v, n, n, {1, 0}, v + b * n * n);
  });
}

template <class T>
void eigh_backward(const T* dw, const Complex<T>* dv, const T* w, const Complex<T>* v, Index batch, Index n,
                   Complex<T>* dr) {
  each_matrix(batch, n * n, [&](Index b) {
    const Spectrum<T> s = spectrum<T>(nullptr, b, n, {w, v});
    if (dv)
      backward_of_both(dw + b * n, dv + b * n * n, s, dr + b * n * n);
    else
      backward_of_values(dw + b * n, s, dr + b * n * n);
  });
}

#define LOOPOS_INSTANTIATE(T)                                                   \
  template void eigh_forward(const Complex<T>*, Index, Index, T*, Complex<T>*); \
  template void eigh_backward(const T*, const Complex<T>*, const T*, const Complex<T>*, Index, Index, Complex<T>*);
LOOPOS_INSTANTIATE(float)
LOOPOS_INSTANTIATE(double)

}  // namespace loopos
