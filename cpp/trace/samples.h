// Samples of a model's matrices, some numbers of each at an even distance, and how far an update moved them. The monitor of
// a run takes them: in a step of a small model that is most of what watching costs.
#pragma once

#include "core/check.h"

namespace loopos {

template <class T>
struct Sample {
  const T* data;
  Index distance, size;
};

template <class T>
void copy_sample(const Sample<T>& x, double* out) {
  for (Index i = 0; i < x.size; ++i) out[i] = static_cast<double>(x.data[i * x.distance]);
}

/// Sums of squares: of the difference to what was copied, and of that.
struct Moved {
  double difference, before;
};

/// The sums go by four chains, whose order is fixed.
template <class T>
Moved moved_since(const Sample<T>& x, const double* before) {
  constexpr Index kChains = 4;
  double difference[kChains] = {}, size[kChains] = {};
  for (Index i = 0; i < x.size; ++i) {
    const double moved = static_cast<double>(x.data[i * x.distance]) - before[i];
    difference[i % kChains] += moved * moved;
    size[i % kChains] += before[i] * before[i];
  }
  return {(difference[0] + difference[1]) + (difference[2] + difference[3]), (size[0] + size[1]) + (size[2] + size[3])};
}

}  // namespace loopos
