#include "ops/pool.h"

#include <algorithm>

#include "core/buffer.h"
#include "core/thread_pool.h"

namespace loopos {

template <class T>
void pool_forward(const T* x, const PoolShape& s, T* y) {
  struct Sums;
  parallel_blocks(s.batch, row_grain(s.count() * s.width), [&](Index begin, Index end) {
    double* sums = scratch<double, Sums>(s.width);
    for (Index b = begin; b < end; ++b) {
      std::fill_n(sums, s.width, 0.0);
      for (Index t = s.begin; t < s.end; ++t) {
        const T* row = x + (b * s.rows + t) * s.width;
        for (Index c = 0; c < s.width; ++c) sums[c] += static_cast<double>(row[c]);
      }
      for (Index c = 0; c < s.width; ++c) y[b * s.width + c] = static_cast<T>(sums[c] / static_cast<double>(s.count()));
    }
  });
}

template <class T>
void pool_backward(const T* dy, const PoolShape& s, T* dx) {
  parallel_blocks(s.batch * s.rows, row_grain(s.width), [&](Index begin, Index end) {
    for (Index r = begin; r < end; ++r) {
      const Index t = r % s.rows;
      const T* from = dy + r / s.rows * s.width;
      T* to = dx + r * s.width;
      const bool inside = t >= s.begin && t < s.end;
      for (Index c = 0; c < s.width; ++c) to[c] = inside ? from[c] / static_cast<T>(s.count()) : T(0);
    }
  });
}

#define LOOPOS_INSTANTIATE(T)                                 \
  template void pool_forward(const T*, const PoolShape&, T*); \
  template void pool_backward(const T*, const PoolShape&, T*);
LOOPOS_INSTANTIATE(float)
LOOPOS_INSTANTIATE(double)

}  // namespace loopos
