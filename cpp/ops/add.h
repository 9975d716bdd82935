// Addition, element by element: y = a + b. Its gradient goes to both unchanged: da = db = dy.
#pragma once

#include "trace/operands.h"

namespace loopos {

/// a, b, y (n); y may be a or b.
template <class T>
void add_forward(const T* a, const T* b, Index n, T* y);

/// dy, da, db (n); da and db are overwritten. A null output, or dy itself, skips its work.
template <class T>
void add_backward(const T* dy, Index n, T* da, T* db);

/// What made an element of y, for rows of n numbers.
template <class T>
void add_operands(Operands& o, const char* name_a, const T* a, const char* name_b, const T* b, Index n) {
  const Index at = o.row() * n + o.column();
  o.take(name_a, a + at, 1);
  o.take(name_b, b + at, 1);
}

}  // namespace loopos
