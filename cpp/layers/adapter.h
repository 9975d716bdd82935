// The low-rank adapter of a model: which projections it wraps, its parameters, and the model's own, frozen while it is
// there.
#pragma once

#include <vector>

#include "core/addition.h"
#include "layers/adapted.h"

namespace loopos {

template <class T>
class Adapter {
 public:
  using Slots = std::vector<std::unique_ptr<Projection<T>>*>;  // where a model keeps its projections

  bool present() const { return addition_.present(); }
  const Addition<T>& addition() const { return addition_; }

  /// Wraps those slots that parts are for; the one with number i has dropout site first_dropout_site + i. Parts that make
  /// no sense are refused in a sentence, and all is as before.
  void add(ParameterSet<T>& set, const Slots& slots, Index first_dropout_site, const std::vector<LowRankSpec>& parts);
  /// Every projection as it was.
  void remove(ParameterSet<T>& set);
  /// off: the projections compute as without it; its parameters, and what is planned for them, stay.
  void enable(bool on);

 private:
  struct Wrapped {
    std::unique_ptr<Projection<T>>* slot;
    Adapted<T>* adapted;  // what is in it
  };

  Addition<T> addition_;
  std::vector<Wrapped> wrapped_;
};

}  // namespace loopos
