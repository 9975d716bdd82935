#include "core/guards.h"

#include <atomic>

namespace loopos {
namespace {
std::array<std::atomic<Index>, kGuardNames.size()> counts{};
thread_local int uncounted = 0;
}  // namespace

void count_guard(Guard site, Index times) {
  if (times && uncounted == 0) counts[static_cast<std::size_t>(site)].fetch_add(times, std::memory_order_relaxed);
}
Index guard_count(Guard site) {
  return counts[static_cast<std::size_t>(site)].load();
}
void reset_guard_counts() {
  for (auto& count : counts) count.store(0);
}

GuardsUncounted::GuardsUncounted() {
  ++uncounted;
}
GuardsUncounted::~GuardsUncounted() {
  --uncounted;
}

}  // namespace loopos
