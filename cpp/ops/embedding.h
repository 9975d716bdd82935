// Table lookup: y[r] = scale weight[ids[r]]; dweight[ids[r]] += scale dy[r].
// Backward sorts the rows by id (stable, so the order of addition is fixed), cuts the sorted list into pieces of fixed
// size and sums every run of equal ids in double. A run that crosses a border keeps its part in a slot of its own,
// added afterwards in order. So the bits depend on no thread and the work is even, with two ids and a million rows as
// with a large vocabulary of which few ids occur; no atomics.
#pragma once

#include "core/check.h"
#include "trace/operands.h"

namespace loopos {

/// IndexError (std::out_of_range) naming position and value unless every id is in [0, vocab).
void check_ids(const char* function, const char* argument, const Index* ids, Index rows, Index vocab);

/// ids (rows), checked; weight (vocab, width); y (rows, width).
template <class T>
void embedding_forward(const Index* ids, const T* weight, Index rows, Index width, double scale, T* y);

/// dweight (vocab, width), added into. ids (rows), checked.
template <class T>
void embedding_backward(const T* dy, const Index* ids, Index rows, Index width, Index vocab, double scale, T* dweight);

/// What made an element of y.
template <class T>
void embedding_operands(Operands& o, const Index* ids, const T* weight, Index width, double scale) {
  o.set("embedding_scale", scale);
  o.set("id", ids[o.row()]);
  o.take("token", weight + ids[o.row()] * width + o.column(), 1);
}
/// Of dweight: dy of every place where the id stands.
template <class T>
void embedding_backward_operands(Operands& o, const T* dy, const Index* ids, Index rows, Index width, double scale) {
  o.set("embedding_scale", scale);
  std::vector<T> terms;
  for (Index r = 0; r < rows; ++r)
    if (ids[r] == o.row()) terms.push_back(dy[r * width + o.column()]);
  o.take("dy", terms);
}

}  // namespace loopos
