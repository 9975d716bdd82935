// The list of a model's operations.
#pragma once

#include <vector>

#include "models/gpt.h"
#include "trace/flags.h"
#include "trace/guards.h"

namespace loopos {

/// Calls body() with gradients that are scratch: those that the model has accumulated come back untouched.
template <class T, class Body>
void with_scratch_gradients(Gpt<T>& gpt, Body&& body) {
  auto& set = gpt.parameters();
  set.allocate_gradients();
  struct Kept {
    ParameterSet<T>& set;
    std::shared_ptr<Buffer<T>> gradients = std::make_shared<Buffer<T>>();
    explicit Kept(ParameterSet<T>& s) : set(s) { set.swap_gradients(gradients); }
    ~Kept() { set.swap_gradients(gradients); }
  } kept(set);
  set.allocate_gradients();
  body();
}

/// In the order of a pass over the whole batch: what one token goes through says it.
template <class T>
std::vector<Raised> operations(Gpt<T>& gpt) {
  Probe unfused({}, false, 0);
  FlagRecord all(true);
  Pass one = Pass::whole(1, 1);
  one.probe = &unfused;
  one.flags = &all;
  const Index token = 0;
  const GuardsUncounted quiet;
  with_scratch_gradients(gpt, [&] { gpt.accumulate(one, &token, &token, {}, 0.0, false); });
  return all.list();
}

}  // namespace loopos
