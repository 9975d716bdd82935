// Guards that fired. An operation whose guard decides a row says so here (a fully masked softmax row; a norm's row
// whose variance is below eps, so that eps sets its scale), and Python reads the counts: a guard is never silent.
#pragma once

#include <array>

#include "core/check.h"

namespace loopos {

enum class Guard { softmax, log_softmax, logsumexp, cross_entropy, attention, layer_norm_eps, rms_norm_eps };
constexpr std::array<const char*, 7> kGuardNames = {"softmax",   "log_softmax",    "logsumexp",   "cross_entropy",
                                                    "attention", "layer_norm_eps", "rms_norm_eps"};

void count_guard(Guard site, Index times = 1);
Index guard_count(Guard site);
void reset_guard_counts();

/// While one lives, nothing is counted on this thread: for a pass whose numbers are nobody's.
class GuardsUncounted {
 public:
  GuardsUncounted();
  ~GuardsUncounted();
  GuardsUncounted(const GuardsUncounted&) = delete;
  GuardsUncounted& operator=(const GuardsUncounted&) = delete;
};

}  // namespace loopos
