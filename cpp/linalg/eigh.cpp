#include "linalg/eigh.h"

#include <cmath>
#include <limits>

#include "kernels/isa/complex.h"
#include "linalg/product.h"
#include "linalg/spectrum.h"

namespace loopos {
namespace {

struct Vectors;
struct Gradient;
struct Adjoint;
struct Expanded;
struct Inside;
struct Between;

template <class T>
constexpr double kTolerance = sizeof(T) == 4 ? 1e-3 : 1e-8;

/// What B is made of: M (of 2^-from_v dV), the gradients of the eigenvalues, and what counts as 0 of either.
template <class T>
struct Parts {
  const T* m;
  const T* dw;
  const T* w;
  Index n;
  int from_v;
  double zero_m, zero_dw;

  Complex<T> at(Index i, Index j) const {
    const T* x = m + i * row_stride(n) + 2 * j;
    return {x[0], x[1]};
  }
};

template <class T>
void refuse_phases(const Parts<T>& p) {
  for (Index i = 0; i < p.n; ++i)
    require_matrix(std::abs(p.at(i, i).imag()) <= p.zero_m, "dv depends on the phase of eigenvector ", i,
                   ", which nothing fixes: the imaginary part of v^H dv is ",
                   std::ldexp(static_cast<double>(p.at(i, i).imag()), p.from_v),
                   "; a loss must be of what does not change with it, such as v v^H or |v|");
}

template <class T>
void refuse_equal(const Parts<T>& p, Index i, Index j) {
  const auto refuse = [&](bool fine, const char* why) {
    require_matrix(fine, "eigenvalues ", j, " and ", i, " are equal (", p.w[j], "), and ", why,
                   "; for a function of the eigenvalues or the span of the largest use spectral_function or projector");
  };
  const Complex<T> both = p.at(i, j) + std::conj(p.at(j, i)), turn = p.at(i, j) - std::conj(p.at(j, i));
  refuse(std::abs(turn) <= p.zero_m, "dv depends on which vectors of their span were taken");
  refuse(std::abs(static_cast<double>(p.dw[i]) - static_cast<double>(p.dw[j])) <= p.zero_dw,
         "dw differs between them, so that it depends on which is which");
  refuse(std::abs(static_cast<double>(p.dw[i])) <= p.zero_dw || std::abs(both) <= p.zero_m,
         "the loss depends on them and on their vectors, whose common derivative dw and dv do not tell");
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
  const Index stride = row_stride(n);
  each_matrix(batch, n * n, [&](Index b) {
    T *vectors = matrix_scratch<T, Vectors>(n, n), *gradient = matrix_scratch<T, Gradient>(n, n),
      *adjoint = matrix_scratch<T, Adjoint>(n, n), *inside = matrix_scratch<T, Inside>(n, n),
      *m = matrix_scratch<T, Between>(n, n), *expanded = scratch<T, Expanded>(expanded_size(n, n));
    const T *values = w + b * n, *from_values = dw + b * n;
    double top_w = 0, top_dw = 0, top_dv = 0;
    for (Index i = 0; i < n; ++i) {
      require_matrix(std::isfinite(values[i]) && std::isfinite(from_values[i]), "w and dw must be finite, got ",
                     values[i], " and ", from_values[i], " as element (", i, ",)");
      require_matrix(i == 0 || values[i] >= values[i - 1], "w must ascend, as eigh gives it");
      top_w = std::max(top_w, std::abs(static_cast<double>(values[i])));
      top_dw = std::max(top_dw, std::abs(static_cast<double>(from_values[i])));
    }
    const int from_w = top_w > 0 ? std::ilogb(top_w) : 0;
    const int of_v = load("v", v + b * n * n, n, n, vectors);
    for (Index i = 0; i < n * stride; ++i) vectors[i] = std::ldexp(vectors[i], of_v);  // V itself is near 1
    const int from_v = load("dv", dv + b * n * n, n, n, gradient);
    for (Index j = 0; j < n; ++j) {
      double sum = 0;
      for (Index i = 0; i < n; ++i)
        for (Index part = 0; part < 2; ++part) {
          const double x = static_cast<double>(gradient[i * stride + 2 * j + part]);
          sum += x * x;
        }
      top_dv = std::max(top_dv, std::sqrt(sum));
    }
    kernels::complex_kernels<T>().transpose(vectors, stride, n, n, T(1), true, adjoint, stride);
    expand(gradient, stride, Stored::plain, n, n, T(1), expanded);
    multiply(adjoint, stride, n, n, expanded, n, false, m, stride);
    const Parts<T> parts{m, from_values, values, n, from_v, kTolerance<T> * top_dv, kTolerance<T> * top_dw};
    refuse_phases(parts);
    // B is made of dw and of 2^(from_v - from_w) times differences of M by those of 2^-from_w w: both are kept, at the
    // larger of the two powers.
    const int from_dw = top_dw > 0 ? std::ilogb(top_dw) : -100000, of_dv = top_dv > 0 ? from_v - from_w : -100000;
    const int exponent = std::max(from_dw, of_dv) > -100000 ? std::max(from_dw, of_dv) : 0;
    const double close = 4 * static_cast<double>(n) * std::numeric_limits<T>::epsilon() * top_w;
    for (Index i = 0; i < n; ++i) {
      inside[i * stride + 2 * i] = static_cast<T>(std::ldexp(static_cast<double>(from_values[i]), -exponent));
      inside[i * stride + 2 * i + 1] = 0;
      for (Index j = 0; j < i; ++j) {
        const double gap = static_cast<double>(values[j]) - static_cast<double>(values[i]);
        Complex<double> x = 0;
        if (std::abs(gap) <= close) {
          refuse_equal(parts, i, j);
        } else {
          const Complex<T> turn = parts.at(i, j) - std::conj(parts.at(j, i));
          const double by = std::ldexp(1.0, std::max(-2000, of_dv - exponent)) / (2 * std::ldexp(gap, -from_w));
          x = {static_cast<double>(turn.real()) * by, static_cast<double>(turn.imag()) * by};
        }
        inside[i * stride + 2 * j] = inside[j * stride + 2 * i] = static_cast<T>(x.real());
        inside[i * stride + 2 * j + 1] = static_cast<T>(x.imag());
        inside[j * stride + 2 * i + 1] = static_cast<T>(-x.imag());
      }
    }
    from_eigenbasis(vectors, n, inside, gradient);
    store_hermitian(gradient, n, false, {1, exponent}, dr + b * n * n);
  });
}

#define LOOPOS_INSTANTIATE(T)                                                   \
  template void eigh_forward(const Complex<T>*, Index, Index, T*, Complex<T>*); \
  template void eigh_backward(const T*, const Complex<T>*, const T*, const Complex<T>*, Index, Index, Complex<T>*);
LOOPOS_INSTANTIATE(float)
LOOPOS_INSTANTIATE(double)

}  // namespace loopos
