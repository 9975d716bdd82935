// The workspace of a pass: one block of memory, planned once and reused, so that a step allocates nothing.
#pragma once

#include <algorithm>

#include "core/buffer.h"
#include "core/memory.h"

namespace loopos {

/// One block of memory dealt out in order. Planning runs twice: first to measure, then to hand out pointers.
template <class T>
class Arena {
 public:
  T* take(Index n) {
    const Index at = used_;
    used_ += (n + kStep - 1) / kStep * kStep;
    peak_ = std::max(peak_, used_);
    return memory_.data() ? memory_.data() + at : nullptr;
  }
  Index peak() const { return peak_; }
  Index held() const { return memory_.size(); }
  Index mark() const { return used_; }
  void release(Index mark) { used_ = mark; }  // what was taken since may be handed out again

  /// Runs plan(arena) to measure, allocates, runs it again to hand out. Memory is kept when it suffices.
  template <class Plan>
  void arrange(Plan&& plan) {
    Buffer<T> kept = std::move(memory_);
    memory_ = Buffer<T>();
    used_ = peak_ = 0;
    plan(*this);
    if (kept.size() < peak_) {
      const Index need = peak_;
      kept = Buffer<T>();
      require_memory("the workspace of this batch", static_cast<double>(need) * sizeof(T));
      kept = Buffer<T>(need);
    }
    memory_ = std::move(kept);
    used_ = 0;
    plan(*this);
  }

 private:
  static constexpr Index kStep = kAlignment / sizeof(T);
  Buffer<T> memory_;
  Index used_ = 0, peak_ = 0;
};

}  // namespace loopos
