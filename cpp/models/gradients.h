// How a pass that accumulates gradients begins and ends.
#pragma once

#include "layers/pass.h"

namespace loopos {

/// Gradients that are there and count as zero unless `add`; a probe sees the weights.
template <class T>
void begin_gradients(ParameterSet<T>& set, const Pass& batch, bool add) {
  set.allocate_gradients();
  if (!add) set.discard_gradients();
  if (batch.probe)
    for (const auto& p : set.list())  // a weight that is not finite is itself the birth
      batch.probe->see("forward", p.layer, "parameter", p.name, static_cast<const T*>(p.value), p.shape);
}

/// Gradients to which nothing has come are zero in the end, also when something is thrown half-way.
template <class T>
struct Settle {
  ParameterSet<T>& set;
  ~Settle() { set.zero_stale(); }
};

}  // namespace loopos
