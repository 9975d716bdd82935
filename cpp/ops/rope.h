// Rotary position embedding (Su et al. 2021, RoFormer): pair i of a head's row at position p is turned by an angle.
//   angle = p frequency_i, plain: theta^(-2i / width)
//   y1 = factor (x1 cos - x2 sin),  y2 = factor (x2 cos + x1 sin);  backward turns dy by the negative angle
// Pairs are (i, i + width/2), or (2i, 2i + 1) when interleaved. Angles, sines and cosines are computed in double, once
// for all heads, and for all sequences that share their positions, and kept for the next call with the same ones.
// Backward needs the positions alone.
#pragma once

#include "ops/heads.h"
#include "ops/positions.h"
#include "trace/operands.h"

namespace loopos {

/// What turns of a head's row, and how fast. Whoever gives it owns the frequencies.
struct Rotation {
  const double* frequencies;  // (width / 2): the angle of a pair from one position to the next
  Index width;                // even: the first elements, at most all; those behind them pass through
  double factor = 1;          // on cos and sin
  bool interleaved = false;
};

/// theta^(-2i / width) into (width / 2) frequencies; theta > 0.
void plain_frequencies(double theta, Index width, double* frequencies);

/// x, y (B, H, T, width); positions: any int64. In place is allowed (same pointer, same strides).
template <class T>
void rope_forward(const T* x, HeadStrides sx, Positions positions, Index batch, Index heads, Index time, Index width,
                  const Rotation& rotation, T* y, HeadStrides sy);

template <class T>
void rope_backward(const T* dy, HeadStrides sdy, Positions positions, Index batch, Index heads, Index time, Index width,
                   const Rotation& rotation, T* dx, HeadStrides sdx);

/// What made an element of rows that hold heads side by side: x or dy, the head as it was before it was turned.
template <class T>
void rope_operands(Operands& o, const T* x, Index row_width, Index head_width, const Rotation& rotation) {
  o.set("rotary_width", rotation.width);
  o.set("factor", rotation.factor);
  o.take("x", x + o.row() * row_width + o.column() / head_width * head_width, head_width);
}

}  // namespace loopos
