#include "ops/position_embedding.h"

#include <algorithm>

#include "core/thread_pool.h"
#include "kernels/isa/table.h"

namespace loopos {

template <class T>
void position_embedding_forward(const T* x, const T* weight, Positions positions, Index batch, Index time, Index width,
                                T* y) {
  parallel_blocks(batch * time, row_grain(width), [&](Index begin, Index end) {
    for (Index r = begin; r < end; ++r)
      kernels::table<T>().add(x + r * width, weight + positions.of(r / time, r % time) * width, width, y + r * width);
  });
}

/// A task owns rows of dweight and looks through all tokens for those that stand there.
template <class T>
void position_embedding_backward(const T* dy, Positions positions, Index batch, Index time, Index rows, Index width,
                                 T* dweight) {
  constexpr Index kMostTasks = 32;
  const Index grain = std::max((rows + kMostTasks - 1) / kMostTasks, row_grain(width * batch));
  parallel_blocks(rows, grain, [&](Index begin, Index end) {
    for (Index b = 0; b < batch; ++b)
      for (Index t = 0; t < time; ++t) {
        const Index p = positions.of(b, t);
        if (p >= begin && p < end)
          kernels::table<T>().axpy(dy + (b * time + t) * width, width, T(1), dweight + p * width);
      }
  });
}

#define LOOPOS_INSTANTIATE(T)                                                                       \
  template void position_embedding_forward(const T*, const T*, Positions, Index, Index, Index, T*); \
  template void position_embedding_backward(const T*, Positions, Index, Index, Index, Index, T*);
LOOPOS_INSTANTIATE(float)
LOOPOS_INSTANTIATE(double)

}  // namespace loopos
