// Rows that stand before others, in each sequence: y (B, P + T, C) = prefix (B, P, C), then x (B, T, C). Backward takes
// them apart again. Nothing is kept, and no number is changed.
#pragma once

#include "core/check.h"

namespace loopos {

struct PrependShape {
  Index batch, prefix, rows, width;
};

/// prefix null: zeros. y is overwritten.
template <class T>
void prepend_forward(const T* prefix, const T* x, const PrependShape& shape, T* y);

/// dprefix (B, P, C) and dx (B, T, C) are overwritten; one that is null skips its work.
template <class T>
void prepend_backward(const T* dy, const PrependShape& shape, T* dprefix, T* dx);

}  // namespace loopos
