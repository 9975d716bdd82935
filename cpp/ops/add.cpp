#include "ops/add.h"

#include "core/thread_pool.h"
#include "kernels/isa/table.h"

namespace loopos {
namespace {
constexpr Index kGrain = 1 << 15;  // elements per block
}

template <class T>
void add_forward(const T* a, const T* b, Index n, T* y) {
  parallel_blocks(n, kGrain, [&](Index begin, Index end) {
    kernels::table<T>().add(a + begin, b + begin, end - begin, y + begin);
  });
}

template <class T>
void add_backward(const T* dy, Index n, T* da, T* db) {
  for (T* out : {da, db})
    if (out && out != dy)
      parallel_blocks(n, kGrain, [&](Index begin, Index end) { std::copy(dy + begin, dy + end, out + begin); });
}

#define LOOPOS_INSTANTIATE(T)                               \
  template void add_forward(const T*, const T*, Index, T*); \
  template void add_backward(const T*, Index, T*, T*);
LOOPOS_INSTANTIATE(float)
LOOPOS_INSTANTIATE(double)

}  // namespace loopos
