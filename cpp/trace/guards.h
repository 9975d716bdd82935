// Guards that fired. An operation whose guard decides a row declares it beside its code (a fully masked softmax row; a
// norm's row whose variance is below eps, so that eps sets its scale) and counts it; Python reads the counts: a guard
// is never silent.
#pragma once

#include <atomic>
#include <string>
#include <utility>
#include <vector>

#include "core/check.h"

namespace loopos {

/// One guard; an object of static storage. Its constructor puts it on the list that guard_counts() reads.
class Guard {
 public:
  explicit Guard(const char* name);
  Guard(const Guard&) = delete;
  Guard& operator=(const Guard&) = delete;

  /// From any thread.
  void count(Index times = 1);

 private:
  friend std::vector<std::pair<std::string, Index>> guard_counts();
  friend void reset_guard_counts();

  const char* const name_;
  Guard* const next_;
  std::atomic<Index> counted_{0};
};

/// Every guard of the program and how often it has decided a row, by name.
std::vector<std::pair<std::string, Index>> guard_counts();
void reset_guard_counts();

/// While one lives, what this thread calls counts nothing: for numbers that are nobody's, or counted already. So an
/// operation counts on the thread that called it, when its chunks are done.
class GuardsUncounted {
 public:
  GuardsUncounted();
  ~GuardsUncounted();
  GuardsUncounted(const GuardsUncounted&) = delete;
  GuardsUncounted& operator=(const GuardsUncounted&) = delete;
};

}  // namespace loopos
