// Parameters that are added to a finished model for a while, an adapter's: meanwhile the model's own are frozen, but
// for what learns beside them (a head of classes).
#pragma once

#include <vector>

#include "core/parameter.h"

namespace loopos {

template <class T>
class Addition {
 public:
  bool present() const { return present_; }
  /// Whether p is frozen because others are there: all of the model's own are, but what learns beside them.
  bool freezes(const Parameter<T>& p) const { return present_ && p.number < number_ && !p.learns; }

  /// add(): adds the parameters to the set. They get their places, and of the model's own only what learns beside them
  /// is trained. Where that throws, all is as before.
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
    for (std::size_t i = 0; i < first_; ++i) set.set_trainable(set.list()[i], set.list()[i].learns);
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
