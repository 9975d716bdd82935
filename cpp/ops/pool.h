// The mean of some rows of each sequence: y[b] = mean over t in [begin, end) of x[b, t]. One row alone, as that of a
// class token, is itself.
//   dx[b, t] = dy[b] / (end - begin) inside, 0 outside
// Nothing is kept. Sums are in double.
#pragma once

#include "trace/operands.h"

namespace loopos {

struct PoolShape {
  Index batch, rows, width;
  Index begin, end;  // 0 <= begin < end <= rows

  Index count() const { return end - begin; }
};

/// x (batch, rows, width), y (batch, width).
template <class T>
void pool_forward(const T* x, const PoolShape& shape, T* y);

/// dx is overwritten.
template <class T>
void pool_backward(const T* dy, const PoolShape& shape, T* dx);

/// What made an element of y, and of dx.
template <class T>
void pool_operands(Operands& o, const T* x, const PoolShape& s) {
  o.take("x", x + (o.row() * s.rows + s.begin) * s.width + o.column(), s.count(), s.width);
}
template <class T>
void pool_backward_operands(Operands& o, const T* dy, const PoolShape& s) {
  o.take("dy", dy + o.row() / s.rows * s.width + o.column(), 1);
  o.set("rows", s.count());
}

}  // namespace loopos
