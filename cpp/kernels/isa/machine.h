// What this machine can do at most, measured: the limits that benchmarks are compared with.
#pragma once

#include "core/check.h"

namespace loopos::kernels {

/// Float multiplications and additions per second, of independent multiply-adds in registers on all threads of the
/// pool, over about `seconds`.
double multiply_add_rate(double seconds);

/// Bytes per second of y = a + b on all threads, over about `seconds`: 12 bytes for each of the n numbers (two read,
/// one written; a cache that reads y before it writes it moves 16). Beyond the caches where 12 n is.
double memory_rate(Index n, double seconds);

}  // namespace loopos::kernels
