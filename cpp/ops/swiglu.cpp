#include "ops/swiglu.h"

#include "core/thread_pool.h"
#include "kernels/isa/table.h"

namespace loopos {
namespace {
constexpr Index kGrain = 8192;  // elements per block where the rows lie end to end: their number may be 1
}

template <class T>
void swiglu_forward(const T* gate, const T* up, Index rows, Index n, Index stride, T* y) {
  const auto& k = kernels::table<T>();
  if (stride == n) {
    parallel_blocks(rows * n, kGrain, [&](Index i, Index end) { k.swiglu(gate + i, up + i, end - i, y + i); });
    return;
  }
  parallel_blocks(rows, row_grain(n, 4), [&](Index begin, Index end) {
    for (Index r = begin; r < end; ++r) k.swiglu(gate + r * stride, up + r * stride, n, y + r * n);
  });
}

template <class T>
void swiglu_backward(const T* dy, const T* gate, const T* up, Index rows, Index n, Index stride, T* dgate, T* dup) {
  const auto& k = kernels::table<T>();
  if (stride == n) {
    parallel_blocks(rows * n, kGrain, [&](Index i, Index end) {
      k.swiglu_backward(dy + i, gate + i, up + i, end - i, dgate + i, dup + i);
    });
    return;
  }
  parallel_blocks(rows, row_grain(n, 4), [&](Index begin, Index end) {
    for (Index r = begin; r < end; ++r) {
      const Index i = r * stride;
      k.swiglu_backward(dy + r * n, gate + i, up + i, n, dgate + i, dup + i);
    }
  });
}

#define LOOPOS_INSTANTIATE(T)                                                \
  template void swiglu_forward(const T*, const T*, Index, Index, Index, T*); \
  template void swiglu_backward(const T*, const T*, const T*, Index, Index, Index, T*, T*);
LOOPOS_INSTANTIATE(float)
LOOPOS_INSTANTIATE(double)

}  // namespace loopos
