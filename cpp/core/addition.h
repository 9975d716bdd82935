// Parameters that are added to a finished model for a while, an adapter's: meanwhile the model's own are frozen.
#pragma once

#include <vector>

#include "core/parameter.h"

namespace loopos {

template <class T>
class Addition {
 public:
  bool present() const { return present_; }
  /// Whether p is among the model's own, and others are there.
  bool freezes(const Parameter<T>& p) const { return present_ && p.number < number_; }

  /// add(): adds the parameters to the set. They get their places, and what is not among them is frozen. Where that
  /// throws, all is as before.
  template <class Add>
  void begin(ParameterSet<T>& set, const char* what, Add&& add) {
    first_ = set.list().size();
    number_ = set.next_number();
    trained_.clear();
    for (const auto& p : set.list()) trained_.push_back(p.trainable);
    try {
      add();
      set.allocate(0, what);
    } catch (...) {
      set.drop(first_);
      throw;
    }
    for (std::size_t i = 0; i < first_; ++i) set.set_trainable(set.list()[i], false);
    present_ = true;
  }
  /// Without them, and with the rest trainable or frozen as it was.
  void end(ParameterSet<T>& set) {
    if (!present_) return;
    set.drop(first_);
    for (std::size_t i = 0; i < first_; ++i) set.set_trainable(set.list()[i], trained_[i]);
    present_ = false;
  }

 private:
  bool present_ = false;
  std::size_t first_ = 0;  // place in the set's list of the first that was added, and its number
  std::uint64_t number_ = 0;
  std::vector<bool> trained_;  // the model's own, before
};

}  // namespace loopos
