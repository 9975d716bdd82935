#include "ops/log_softmax.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>

#include "core/thread_pool.h"
#include "kernels/isa/table.h"
#include "trace/guards.h"

namespace loopos {
namespace {
Guard fully_masked("log_softmax");
}

template <class T>
void log_softmax_forward(const T* x, Index rows, Index n, T* y) {
  const auto& k = kernels::table<T>();
  std::atomic<Index> masked{0};
  parallel_blocks(rows, row_grain(n, 4), [&](Index begin, Index end) {
    for (Index i = begin * n; i < end * n; i += n) {
      const T top = k.max(x + i, n);
      if (top == -std::numeric_limits<T>::infinity()) {
        std::fill(y + i, y + i + n, top);
        ++masked;
        continue;
      }
      k.subtract_twice(x + i, n, top, static_cast<T>(std::log(k.exp_sum_only(x + i, n, top))), y + i);
    }
  });
  fully_masked.count(masked);
}

template <class T>
void log_softmax_backward(const T* dy, const T* y, Index rows, Index n, T* dx) {
  const auto& k = kernels::table<T>();
  parallel_blocks(rows, row_grain(n, 4), [&](Index begin, Index end) {
    for (Index i = begin * n; i < end * n; i += n)
      k.log_softmax_backward(dy + i, y + i, n, static_cast<T>(k.sum(dy + i, n)), dx + i);
  });
}

#define LOOPOS_INSTANTIATE(T)                                    \
  template void log_softmax_forward(const T*, Index, Index, T*); \
  template void log_softmax_backward(const T*, const T*, Index, Index, T*);
LOOPOS_INSTANTIATE(float)
LOOPOS_INSTANTIATE(double)

}  // namespace loopos
