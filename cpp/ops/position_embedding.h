// Learned positions (Vaswani et al. 2017, section 3.5): y = x + weight[start + t] for the row of time t.
//   dx = dy,  dweight[start + t] += sum over the batch of dy
// Nothing is kept. Backward adds the sequences in their order, so that no bit depends on a thread.
#pragma once

#include "trace/operands.h"

namespace loopos {

/// x, y (batch, time, width); y may be x. weight (positions, width) with start + time <= positions.
template <class T>
void position_embedding_forward(const T* x, const T* weight, Index batch, Index time, Index start, Index width, T* y);

/// dy (batch, time, width). dweight (positions, width) is added into.
template <class T>
void position_embedding_backward(const T* dy, Index batch, Index time, Index start, Index width, T* dweight);

/// What the position added to an element of y.
template <class T>
void position_embedding_operands(Operands& o, const T* weight, Index time, Index start, Index width) {
  o.take("position", weight + (start + o.row() % time) * width + o.column(), 1);
}
/// Of dweight; row t is dy of time t in every sequence.
template <class T>
void position_embedding_backward_operands(Operands& o, const T* dy, Index batch, Index time, Index start, Index width) {
  const Index t = o.row() - start;
  o.take("dy", dy + t * width + o.column(), t < 0 || t >= time ? 0 : batch, time * width);
}

}  // namespace loopos
