// The list of a model's operations.
#pragma once

#include <vector>

#include "models/gpt.h"
#include "models/snapshot_encoder.h"
#include "trace/flags.h"
#include "trace/guards.h"

namespace loopos {

/// Calls body() with gradients that are scratch: those that the model has accumulated come back untouched.
template <class T, class Body>
void with_scratch_gradients(ParameterSet<T>& set, Body&& body) {
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
template <class T, class Accumulate>
std::vector<Raised> operations_of(ParameterSet<T>& set, Accumulate&& accumulate) {
  Probe unfused({}, false, 0);
  FlagRecord all(true);
  Pass one = Pass::whole(1, 1);
  one.probe = &unfused;
  one.flags = &all;
  const GuardsUncounted quiet;
  with_scratch_gradients(set, [&] { accumulate(one); });
  return all.list();
}

template <class T>
std::vector<Raised> operations(Gpt<T>& gpt) {
  const Index token = 0;
  const auto& pictures = gpt.config().pictures;
  const std::vector<T> image(static_cast<std::size_t>(pictures ? pictures->grid.image_size() : 0));
  return operations_of(gpt.parameters(),
                       [&](const Pass& one) { gpt.accumulate(one, {&token, image.data()}, &token, {}, 0.0, false); });
}

template <class T>
std::vector<Raised> operations(ImageEncoder<T>& encoder) {
  const Index label = 0;
  const std::vector<T> image(static_cast<std::size_t>(encoder.config().grid.image_size()));
  return operations_of(encoder.parameters(),
                       [&](const Pass& one) { encoder.accumulate(one, image.data(), &label, {}, 0.0, false); });
}

template <class T>
std::vector<Raised> operations(SnapshotEncoder<T>& network) {
  const std::vector<T> row(static_cast<std::size_t>(network.config().channels));
  std::vector<T> output(static_cast<std::size_t>(network.config().outputs));
  const std::vector<T> gradient(output.size());
  const SnapshotLoss<T> loss{output.data(), [&] { return typename SnapshotLoss<T>::Result{0, gradient.data(), 0}; }};
  return operations_of(network.parameters(),
                       [&](const Pass& one) { network.accumulate(one, row.data(), false, loss); });
}

}  // namespace loopos
