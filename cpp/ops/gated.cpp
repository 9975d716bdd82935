#include "ops/gated.h"

#include "core/buffer.h"
#include "core/thread_pool.h"
#include "kernels/isa/table.h"

namespace loopos {
namespace {

constexpr Index kGrain = 8192;  // elements per block where the rows lie end to end: their number may be 1

template <class T>
void forward_row(Activation f, const T* gate, const T* up, Index n, T* y) {
  const auto& k = kernels::table<T>();
  if (f == Activation::silu) return k.swiglu(gate, up, n, y);
  activation_kernel<T>(f).forward(gate, n, y);
  k.multiply(y, up, n, y);
}

template <class T>
void backward_row(Activation f, const T* dy, const T* gate, const T* up, Index n, T* dgate, T* dup) {
  const auto& k = kernels::table<T>();
  if (f == Activation::silu) return k.swiglu_backward(dy, gate, up, n, dgate, dup);
  struct Row;
  T *opened = scratch<T, Row>(2 * n), *dopened = opened + n;  // f(gate) and its gradient: the results may be in place
  activation_kernel<T>(f).forward(gate, n, opened);
  k.multiply(dy, up, n, dopened);
  k.multiply(dy, opened, n, dup);
  activation_kernel<T>(f).backward(dopened, gate, n, dgate);
}

}  // namespace

template <class T>
void gated_forward(Activation f, const T* gate, const T* up, Index rows, Index n, Index stride, T* y) {
  if (stride == n) {
    parallel_blocks(rows * n, kGrain, [&](Index i, Index end) { forward_row(f, gate + i, up + i, end - i, y + i); });
    return;
  }
  parallel_blocks(rows, row_grain(n, 4), [&](Index begin, Index end) {
    for (Index r = begin; r < end; ++r) forward_row(f, gate + r * stride, up + r * stride, n, y + r * n);
  });
}

template <class T>
void gated_backward(Activation f, const T* dy, const T* gate, const T* up, Index rows, Index n, Index stride, T* dgate,
                    T* dup) {
  if (stride == n) {
    parallel_blocks(rows * n, kGrain, [&](Index i, Index end) {
      backward_row(f, dy + i, gate + i, up + i, end - i, dgate + i, dup + i);
    });
    return;
  }
  parallel_blocks(rows, row_grain(n, 4), [&](Index begin, Index end) {
    for (Index r = begin; r < end; ++r) {
      const Index i = r * stride;
      backward_row(f, dy + r * n, gate + i, up + i, n, dgate + i, dup + i);
    }
  });
}

#define LOOPOS_INSTANTIATE(T)                                                           \
  template void gated_forward(Activation, const T*, const T*, Index, Index, Index, T*); \
  template void gated_backward(Activation, const T*, const T*, const T*, Index, Index, Index, T*, T*);
LOOPOS_INSTANTIATE(float)
LOOPOS_INSTANTIATE(double)

}  // namespace loopos
