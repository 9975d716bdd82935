#include "ops/softmax.h"

#include <atomic>
#include <limits>

#include "core/thread_pool.h"
#include "kernels/isa/table.h"
#include "trace/guards.h"

namespace loopos {
namespace {
Guard fully_masked("softmax");
}

template <class T>
void softmax_forward(const T* x, Index rows, Index n, T* y) {
  const auto& k = kernels::table<T>();
  std::atomic<Index> masked{0};
  parallel_blocks(rows, row_grain(n, 4), [&](Index begin, Index end) {
    for (Index r = begin; r < end; ++r) {
      const T* row = x + r * n;
      T* out = y + r * n;
      const T top = k.max(row, n);
      if (top == -std::numeric_limits<T>::infinity()) {
        std::fill(out, out + n, T(0));
        ++masked;
        continue;
      }
      const double total = k.exp_sum(row, n, top, out);
      k.scale(out, n, static_cast<T>(1 / total), out);
    }
  });
  fully_masked.count(masked);
}

template <class T>
void softmax_backward(const T* dy, const T* y, Index rows, Index n, T* dx) {
  const auto& k = kernels::table<T>();
  parallel_blocks(rows, row_grain(n, 2), [&](Index begin, Index end) {
    for (Index i = begin * n; i < end * n; i += n)
      k.softmax_backward(y + i, dy + i, n, static_cast<T>(k.dot(dy + i, y + i, n)), T(1), dx + i);
  });
}

#define LOOPOS_INSTANTIATE(T)                                \
  template void softmax_forward(const T*, Index, Index, T*); \
  template void softmax_backward(const T*, const T*, Index, Index, T*);
LOOPOS_INSTANTIATE(float)
LOOPOS_INSTANTIATE(double)

}  // namespace loopos
