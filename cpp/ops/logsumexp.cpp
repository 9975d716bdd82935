#include "ops/logsumexp.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>

#include "core/thread_pool.h"
#include "kernels/isa/table.h"
#include "trace/guards.h"

namespace loopos {
namespace {

Guard fully_masked("logsumexp");

template <class T>
constexpr T kInfinity = std::numeric_limits<T>::infinity();

/// A row whose maximum is +inf: +inf, unless a NaN stands beside it.
template <class T>
T infinite_row(const T* x, Index n) {
  for (Index i = 0; i < n; ++i)
    if (std::isnan(x[i])) return x[i];
  return kInfinity<T>;
}

}  // namespace

template <class T>
void logsumexp_forward(const T* x, Index rows, Index n, T* y) {
  const auto& k = kernels::table<T>();
  std::atomic<Index> masked{0};
  parallel_blocks(rows, row_grain(n, 4), [&](Index begin, Index end) {
    for (Index r = begin; r < end; ++r) {
      const T* row = x + r * n;
      const T top = k.max(row, n);
      if (top == kInfinity<T>) {
        y[r] = infinite_row(row, n);
      } else if (top == -kInfinity<T>) {
        y[r] = top;
        ++masked;
      } else {
        y[r] = static_cast<T>(static_cast<double>(top) + std::log(k.exp_sum_only(row, n, top)));
      }
    }
  });
  fully_masked.count(masked);
}

template <class T>
void logsumexp_backward(const T* dy, const T* x, Index rows, Index n, T* dx) {
  const auto& k = kernels::table<T>();
  std::atomic<Index> masked{0};
  parallel_blocks(rows, row_grain(n, 4), [&](Index begin, Index end) {
    for (Index r = begin; r < end; ++r) {
      const T* row = x + r * n;
      T* out = dx + r * n;
      const T top = k.max(row, n);
      if (top == -kInfinity<T>) {
        std::fill(out, out + n, T(0) * dy[r]);
        ++masked;
        continue;
      }
      const double total = k.exp_sum(row, n, top, out);
      k.scale(out, n, static_cast<T>(static_cast<double>(dy[r]) / total), out);
    }
  });
  fully_masked.count(masked);
}

#define LOOPOS_INSTANTIATE(T)                                  \
  template void logsumexp_forward(const T*, Index, Index, T*); \
  template void logsumexp_backward(const T*, const T*, Index, Index, T*);
LOOPOS_INSTANTIATE(float)
LOOPOS_INSTANTIATE(double)

}  // namespace loopos
