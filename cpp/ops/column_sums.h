// Sums over the rows of a matrix, added into a parameter gradient: the bias gradients, and the last step of the norms'
// backward. Rows are cut into blocks of a fixed size, each block sums into a slot of its own in double, the slots are
// added in order.
#pragma once

#include "core/check.h"

namespace loopos {

/// sums[c] += sum over r of x[r stride + c]. x: rows of n numbers at distance `stride`.
template <class T>
void add_column_sums(const T* x, Index rows, Index n, Index stride, T* sums);

}  // namespace loopos
