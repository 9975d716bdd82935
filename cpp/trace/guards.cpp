#include "trace/guards.h"

#include <algorithm>

namespace loopos {
namespace {
Guard* first_guard = nullptr;  // known before any constructor runs
thread_local int uncounted = 0;
}  // namespace

Guard::Guard(const char* name) : name_(name), next_(first_guard) {
  first_guard = this;
}

void Guard::count(Index times) {
  if (times && uncounted == 0) counted_.fetch_add(times, std::memory_order_relaxed);
}

std::vector<std::pair<std::string, Index>> guard_counts() {
  std::vector<std::pair<std::string, Index>> counts;
  for (const Guard* guard = first_guard; guard; guard = guard->next_)
    counts.emplace_back(guard->name_, guard->counted_.load());
  std::sort(counts.begin(), counts.end());
  return counts;
}

void reset_guard_counts() {
  for (Guard* guard = first_guard; guard; guard = guard->next_) guard->counted_.store(0);
}

GuardsUncounted::GuardsUncounted() {
  ++uncounted;
}
GuardsUncounted::~GuardsUncounted() {
  --uncounted;
}

}  // namespace loopos
