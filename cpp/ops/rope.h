// Rotary position embedding (Su et al. 2021, RoFormer): pair i of a head's row at position p is turned by an angle.
//   angle = p theta^(-2i / D)
//   y1 = x1 cos - x2 sin,  y2 = x2 cos + x1 sin;  backward turns dy by the negative angle
// Pairs are (i, i + D/2), or (2i, 2i + 1) when interleaved. Angles, sines and cosines are computed in double, once for
// all batches and heads, and kept for the next call with the same positions. Backward needs the positions alone.
#pragma once

#include "ops/heads.h"
#include "trace/operands.h"

namespace loopos {

/// positions (time), any int64; width even; theta > 0. In place is allowed (same pointer, same strides).
template <class T>
void rope_forward(const T* x, HeadStrides sx, const Index* positions, Index batch, Index heads, Index time, Index width,
                  double theta, bool interleaved, T* y, HeadStrides sy);

template <class T>
void rope_backward(const T* dy, HeadStrides sdy, const Index* positions, Index batch, Index heads, Index time,
                   Index width, double theta, bool interleaved, T* dx, HeadStrides sdx);

/// What made an element of rows that hold heads side by side: x or dy, the head as it was before it was turned.
template <class T>
void rope_operands(Operands& o, const T* x, Index row_width, Index head_width) {
  o.take("x", x + o.row() * row_width + o.column() / head_width * head_width, head_width);
}

}  // namespace loopos
