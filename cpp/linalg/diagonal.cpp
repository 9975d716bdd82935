#include "linalg/diagonal.h"

#include <algorithm>

#include "core/buffer.h"

namespace loopos {

template <class T>
double trace_of(const Complex<T>* r, Index n) {
  double sum = 0;
  for (Index i = 0; i < n; ++i) sum += static_cast<double>(r[i * (n + 1)].real());
  return sum;
}

template <class T>
void trace_forward(const Complex<T>* r, Index batch, Index n, T* y) {
  each_matrix(batch, n, [&](Index b) { y[b] = static_cast<T>(trace_of(r + b * n * n, n)); });
}

template <class T>
void trace_backward(const T* dy, Index batch, Index n, Complex<T>* dr) {
  each_matrix(batch, n * n, [&](Index b) {
    Complex<T>* out = dr + b * n * n;
    std::fill(out, out + n * n, Complex<T>(0));
    for (Index i = 0; i < n; ++i) out[i * (n + 1)] = dy[b];
  });
}

template <class T>
void load_diagonal_forward(const Complex<T>* r, Index batch, Index n, double eps, Complex<T>* y) {
  each_matrix(batch, n * n, [&](Index b) {
    Complex<T>* out = y + b * n * n;
    std::copy(r + b * n * n, r + (b + 1) * n * n, out);
    for (Index i = 0; i < n; ++i) out[i * (n + 1)] += static_cast<T>(eps);
  });
}

template <class T>
double load_diagonal_backward(const Complex<T>* dy, Index batch, Index n, Complex<T>* dr) {
  struct Traces;
  double* traces = scratch<double, Traces>(std::max<Index>(1, batch));
  each_matrix(batch, n * n, [&](Index b) {
    std::copy(dy + b * n * n, dy + (b + 1) * n * n, dr + b * n * n);
    traces[b] = trace_of(dy + b * n * n, n);
  });
  double sum = 0;
  for (Index b = 0; b < batch; ++b) sum += traces[b];
  return sum;
}

#define LOOPOS_INSTANTIATE(T)                                                                \
  template double trace_of(const Complex<T>*, Index);                                        \
  template void trace_forward(const Complex<T>*, Index, Index, T*);                          \
  template void trace_backward(const T*, Index, Index, Complex<T>*);                         \
  template void load_diagonal_forward(const Complex<T>*, Index, Index, double, Complex<T>*); \
  template double load_diagonal_backward(const Complex<T>*, Index, Index, Complex<T>*);
LOOPOS_INSTANTIATE(float)
LOOPOS_INSTANTIATE(double)

}  // namespace loopos
