#include "ops/linear.h"

#include <cstring>

#include "core/thread_pool.h"
#include "kernels/gemm.h"
#include "ops/column_sums.h"

namespace loopos {

using kernels::Trans;

template <class T>
void linear_forward(const T* x, const T* weight, const T* bias, Index rows, Index in, Index out, T* y) {
  if (bias && out > 0)  // the product is added to the bias, so that y is not read once more for it
    parallel_blocks(rows, row_grain(out), [&](Index begin, Index end) {
      for (Index r = begin; r < end; ++r) std::memcpy(y + r * out, bias, sizeof(T) * static_cast<std::size_t>(out));
    });
  kernels::gemm(Trans::no, Trans::yes, rows, out, in, x, in, weight, in, y, out, bias != nullptr);
}

template <class T>
void linear_backward(const T* dy, const T* x, const T* weight, Index rows, Index in, Index out, T* dx, T* dweight,
                     T* dbias) {
  if (dx) kernels::gemm(Trans::no, Trans::no, rows, in, out, dy, out, weight, in, dx, in, false);
  if (dweight) kernels::gemm(Trans::yes, Trans::no, out, in, rows, dy, out, x, in, dweight, in, true);
  if (dbias) add_column_sums(dy, rows, out, out, dbias);
}

#define LOOPOS_INSTANTIATE(T)                                                          \
  template void linear_forward(const T*, const T*, const T*, Index, Index, Index, T*); \
  template void linear_backward(const T*, const T*, const T*, Index, Index, Index, T*, T*, T*);
LOOPOS_INSTANTIATE(float)
LOOPOS_INSTANTIATE(double)

}  // namespace loopos
