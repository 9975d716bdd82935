#include "ops/position_embedding.h"

#include "core/thread_pool.h"
#include "kernels/isa/table.h"

namespace loopos {

template <class T>
void position_embedding_forward(const T* x, const T* weight, Index batch, Index time, Index start, Index width, T* y) {
  parallel_blocks(batch * time, row_grain(width), [&](Index begin, Index end) {
    for (Index r = begin; r < end; ++r)
      kernels::table<T>().add(x + r * width, weight + (start + r % time) * width, width, y + r * width);
  });
}

template <class T>
void position_embedding_backward(const T* dy, Index batch, Index time, Index start, Index width, T* dweight) {
  parallel_blocks(time, row_grain(width * batch), [&](Index begin, Index end) {
    for (Index t = begin; t < end; ++t)
      for (Index b = 0; b < batch; ++b)
        kernels::table<T>().axpy(dy + (b * time + t) * width, width, T(1), dweight + (start + t) * width);
  });
}

#define LOOPOS_INSTANTIATE(T)                                                                   \
  template void position_embedding_forward(const T*, const T*, Index, Index, Index, Index, T*); \
  template void position_embedding_backward(const T*, Index, Index, Index, Index, T*);
LOOPOS_INSTANTIATE(float)
LOOPOS_INSTANTIATE(double)

}  // namespace loopos
