#include "linalg/projector.h"

#include "linalg/product.h"
#include "linalg/spectrum.h"

namespace loopos {
namespace {

struct Projection;
struct Expanded;

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

template <class T>
void projector_backward(const Complex<T>* dp, const Complex<T>* r, Index batch, Index n, Index k, Complex<T>* dr,
                        const Eigensystem<T>& known) {
  each_matrix(batch, n * n, [&](Index b) {
    const Spectrum<T> s = separated(r, b, n, k, known);
    const Index first = n - k;  // of the signal's
    spectral_backward(
        s, dp + b * n * n,
        [&](Index i, Index j) { return i >= first && j < first ? 1 / (s.eigenvalue(i) - s.eigenvalue(j)) : 0; },
        dr + b * n * n);
  });
}

#define LOOPOS_INSTANTIATE(T)                                                                                  \
  template void projector_forward(const Complex<T>*, Index, Index, Index, Complex<T>*, const Eigensystem<T>&); \
  template void projector_backward(const Complex<T>*, const Complex<T>*, Index, Index, Index, Complex<T>*,     \
                                   const Eigensystem<T>&);
LOOPOS_INSTANTIATE(float)
LOOPOS_INSTANTIATE(double)

}  // namespace loopos
