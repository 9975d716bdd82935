// Sums over the rows of a matrix, added into a parameter gradient: the bias gradients, and the last step of the norms'
// backward. Rows are cut into blocks of a fixed size, each block sums into a slot of its own in double, the slots are
// added in order.
#pragma once

#include "core/check.h"
#include "trace/operands.h"

namespace loopos {

/// sums[c] += sum over r of x[r stride + c]. x: rows of n numbers at distance `stride`.
template <class T>
void add_column_sums(const T* x, Index rows, Index n, Index stride, T* sums);

/// What made an element of the gradient of a bias that was added to every row.
template <class T>
void column_sums_operands(Operands& o, const T* dy, Index rows, Index stride) {
  o.take("dy", dy + o.column(), rows, stride);
}

}  // namespace loopos
