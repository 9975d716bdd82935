// Table lookup: y[r] = weight[ids[r]]; dweight[ids[r]] += dy[r].
// Backward sorts the rows by id (stable, so the order of addition is fixed), cuts the sorted list into pieces of fixed
// size and sums every run of equal ids in double. A run that crosses a border keeps its part in a slot of its own,
// added afterwards in order. So the bits depend on no thread and the work is even, with two ids and a million rows as
// with a large vocabulary of which few ids occur; no atomics.
#pragma once

#include "core/check.h"

namespace loopos {

/// IndexError (std::out_of_range) naming position and value unless every id is in [0, vocab).
void check_ids(const char* function, const char* argument, const Index* ids, Index rows, Index vocab);

/// ids (rows), checked; weight (vocab, width); y (rows, width).
template <class T>
void embedding_forward(const Index* ids, const T* weight, Index rows, Index width, T* y);

/// dweight (vocab, width), added into. ids (rows), checked.
template <class T>
void embedding_backward(const T* dy, const Index* ids, Index rows, Index width, Index vocab, T* dweight);

}  // namespace loopos
