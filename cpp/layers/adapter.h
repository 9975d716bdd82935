// The adapter of a stack: low-rank parts of its projections (layers/adapted.h), or a modulation of its blocks
// (layers/modulation.h); its parameters, and the model's own, frozen while it is there.
#pragma once

#include <vector>

#include "core/addition.h"
#include "layers/adapted.h"
#include "layers/stack.h"

namespace loopos {

template <class T>
class Adapter {
 public:
  /// set and stack outlive it. first_dropout_site: of the first projection's input; the others follow.
  Adapter(ParameterSet<T>& set, Stack<T>& stack, Index first_dropout_site)
      : set_(set), stack_(stack), first_dropout_site_(first_dropout_site) {}

  /// Whether p is among the model's own parameters, and an adapter is there.
  bool freezes(const Parameter<T>& p) const { return addition_.freezes(p); }

  /// Wraps the projections that parts are for. Parts that make no sense are refused in a sentence, and all is as before.
  void add(const std::vector<LowRankSpec>& parts);
  /// A modulation in every block.
  void modulate(const ModulationConfig& config);
  /// Every projection and block as it was.
  void remove();
  /// off: projections and blocks compute as without it; its parameters, and what is planned for them, stay.
  void enable(bool on);

 private:
  struct Wrapped {
    std::unique_ptr<Projection<T>>* slot;
    Adapted<T>* adapted;  // what is in it
  };

  template <class Place>
  void begin(const char* what, Place&& place);

  ParameterSet<T>& set_;
  Stack<T>& stack_;
  Index first_dropout_site_;
  Addition<T> addition_;
  std::vector<Wrapped> wrapped_;
};

}  // namespace loopos
