#include "ops/prepend.h"

#include <algorithm>

#include "core/thread_pool.h"

namespace loopos {
namespace {

/// body(sequence, number of the row in it, where it begins) for every row of y.
template <class Body>
void each_row(const PrependShape& shape, Body&& body) {
  const Index rows = shape.prefix + shape.rows;
  parallel_blocks(shape.batch * rows, row_grain(shape.width), [&](Index begin, Index end) {
    for (Index r = begin; r < end; ++r) body(r / rows, r % rows, r * shape.width);
  });
}

}  // namespace

template <class T>
void prepend_forward(const T* prefix, const T* x, const PrependShape& s, T* y) {
  each_row(s, [&](Index b, Index row, Index at) {
    if (row >= s.prefix)
      std::copy_n(x + (b * s.rows + row - s.prefix) * s.width, s.width, y + at);
    else if (prefix)
      std::copy_n(prefix + (b * s.prefix + row) * s.width, s.width, y + at);
    else
      std::fill_n(y + at, s.width, T(0));
  });
}

template <class T>
void prepend_backward(const T* dy, const PrependShape& s, T* dprefix, T* dx) {
  each_row(s, [&](Index b, Index row, Index at) {
    if (row >= s.prefix) {
      if (dx) std::copy_n(dy + at, s.width, dx + (b * s.rows + row - s.prefix) * s.width);
    } else if (dprefix) {
      std::copy_n(dy + at, s.width, dprefix + (b * s.prefix + row) * s.width);
    }
  });
}

#define LOOPOS_INSTANTIATE(T)                                                 \
  template void prepend_forward(const T*, const T*, const PrependShape&, T*); \
  template void prepend_backward(const T*, const PrependShape&, T*, T*);
LOOPOS_INSTANTIATE(float)
LOOPOS_INSTANTIATE(double)

}  // namespace loopos
