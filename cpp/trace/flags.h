// Which operations of a pass raised a floating-point flag. A NaN is born with INVALID, an inf with OVERFLOW or
// DIVBYZERO; where one comes in from outside, none is raised (but later by operations that compare, as norms and
// softmax do). A thread reads its flags when an operation is done; where none is up, as in all healthy steps, that is
// all.
#pragma once

#include <algorithm>
#include <cmath>
#include <mutex>
#include <string>
#include <vector>

#include "core/thread_pool.h"

namespace loopos {

/// An operation, named by the first tensor that it gives, and what it raised.
struct Raised {
  const char* phase;
  Index layer;  // -1: outside blocks
  const char* op;
  std::string tensor;
  int flags;
  bool finite;  // every element of that tensor, and of attention its scores
};

template <class T>
bool all_finite(const T* x, Index n) {
  return std::all_of(x, x + n, [](T value) { return std::isfinite(value); });
}

class FlagRecord {
 public:
  struct Nothing {
    bool operator()() const { return true; }
  };
  /// all: also of operations that raise nothing.
  explicit FlagRecord(bool all = false) : all_(all) {}

  /// An operation is done, on this thread or on workers in jobs of it, and gave n numbers x of a tensor. inside():
  /// asked when a flag is up, whether all that it computed on the way is finite too.
  template <class T, class Inside = Nothing>
  void check(const char* phase, Index layer, const char* op, const std::string& site, const char* tensor, const T* x,
             Index n, const Inside& inside = {}) {
    const int flags = FpScope::fresh();
    if (flags == 0 && !all_) return;
    const bool finite = all_finite(x, n) && inside();
    FpScope::fresh();  // whatever looking raised is not the operation's
    add({phase, layer, op, site.empty() ? tensor : site + "." + tensor, flags, finite});
  }

  /// From any thread; parts of the batch, and repetitions, are one operation.
  void add(Raised raised);

  const std::vector<Raised>& list() const { return list_; }
  int flags() const;
  /// Into the order that the operations have in `all`: threads come when they come.
  void sort_like(const std::vector<Raised>& all);

 private:
  const bool all_;
  std::mutex mutex_;
  std::vector<Raised> list_;
};

}  // namespace loopos
