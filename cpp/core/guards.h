// Guards that fired. An operation whose eps guard acts (only a fully masked softmax row can make one act) says so here,
// and Python reads the counts: a guard is never silent.
#pragma once

#include <array>

#include "core/check.h"

namespace loopos {

enum class Guard { softmax, log_softmax, logsumexp, cross_entropy, attention };
constexpr std::array<const char*, 5> kGuardNames = {"softmax", "log_softmax", "logsumexp", "cross_entropy",
                                                    "attention"};

void count_guard(Guard site, Index times = 1);
Index guard_count(Guard site);
void reset_guard_counts();

}  // namespace loopos
