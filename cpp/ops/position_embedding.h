// Learned positions (Vaswani et al. 2017, section 3.5): y[b, t] = x[b, t] + weight[p], p the position of that token.
//   dx = dy,  dweight[p] += sum of dy over the tokens that stand at p
// Nothing is kept. Backward adds the tokens of a position in their order, so that no bit depends on a thread.
#pragma once

#include <vector>

#include "ops/positions.h"
#include "trace/operands.h"

namespace loopos {

/// x, y (batch, time, width); y may be x. weight (rows, width), with every position below rows.
template <class T>
void position_embedding_forward(const T* x, const T* weight, Positions positions, Index batch, Index time, Index width,
                                T* y);

/// dy (batch, time, width). dweight (rows, width) is added into.
template <class T>
void position_embedding_backward(const T* dy, Positions positions, Index batch, Index time, Index rows, Index width,
                                 T* dweight);

/// What the position added to an element of y.
template <class T>
void position_embedding_operands(Operands& o, const T* weight, Positions positions, Index time, Index width) {
  o.take("position", weight + positions.of(o.row() / time, o.row() % time) * width + o.column(), 1);
}
/// Of dweight: dy of every token that stands there.
template <class T>
void position_embedding_backward_operands(Operands& o, const T* dy, Positions positions, Index batch, Index time,
                                          Index width) {
  std::vector<T> terms;
  for (Index b = 0; b < batch; ++b)
    for (Index t = 0; t < time; ++t)
      if (positions.of(b, t) == o.row()) terms.push_back(dy[(b * time + t) * width + o.column()]);
  o.take("dy", terms);
}

}  // namespace loopos
