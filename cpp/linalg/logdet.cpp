#include "linalg/logdet.h"

#include <cmath>

#include "linalg/factor.h"

namespace loopos {
namespace {
struct Inverse;
constexpr double kLn2 = 0.69314718055994530942;
}  // namespace

template <class T>
void logdet_forward(const Complex<T>* r, Index batch, Index n, T* y) {
  each_matrix(batch, n * n, [&](Index b) {
    const Factor<T> f = factor(r + b * n * n, n);
    double sum = 0;
    for (Index i = 0; i < n; ++i) sum += std::log(static_cast<double>(f.l[i * row_stride(n) + 2 * i]));
    y[b] = static_cast<T>(2 * sum + static_cast<double>(n) * f.exponent * kLn2);
  });
}

template <class T>
void logdet_backward(const T* dy, const Complex<T>* r, Index batch, Index n, Complex<T>* dr) {
  each_matrix(batch, n * n, [&](Index b) {
    require_matrix(std::isfinite(dy[b]), "dy must be finite, got ", dy[b]);
    const Factor<T> f = factor(r + b * n * n, n);
    T* inverse = matrix_scratch<T, Inverse>(n, n);
    invert(f, inverse);
    store_hermitian(inverse, n, true, {static_cast<double>(dy[b]), -f.exponent}, dr + b * n * n);
  });
}

#define LOOPOS_INSTANTIATE(T)                                        \
  template void logdet_forward(const Complex<T>*, Index, Index, T*); \
  template void logdet_backward(const T*, const Complex<T>*, Index, Index, Complex<T>*);
LOOPOS_INSTANTIATE(float)
LOOPOS_INSTANTIATE(double)

}  // namespace loopos
