// What the micro-kernel prefetches while it computes: C, and a share of what is read next.
#pragma once

#include "kernels/gemm/block.h"
#include "kernels/gemm/register_tile.h"

namespace loopos::kernels::LOOPOS_ISA_NAME {

/// What lies `bytes` behind p, into the cache of this level. That may be beyond the end of the array, where C++ has no
/// pointers: so it is computed as an address.
template <int LEVEL>
LOOPOS_INLINE inline void prefetch(const void* p, Index bytes) {
  const auto address = reinterpret_cast<std::uintptr_t>(p) + static_cast<std::uintptr_t>(bytes);
  __builtin_prefetch(reinterpret_cast<const void*>(address), 0, 4 - LEVEL);
}

/// Walks through what is to be prefetched, cache line by cache line.
struct Walk {
  const float* at;
  Index left, runs, lines, jump;  // left: lines of this run; runs: with this one
  explicit Walk(const Prefetch& p)
      : at(p.at), left(p.lines), runs(p.runs), lines(p.lines), jump(p.stride - kLine * p.lines) {}
  /// Goes one line on; behind the last line it becomes `then`.
  LOOPOS_INLINE void next(const Walk& then) {
    at += kLine;
    if (--left > 0) return;
    if (--runs > 0) {
      at += jump;
      left = lines;
    } else {
      *this = then;
    }
  }
  /// Goes `count` lines on; runs is 0 behind the last line.
  void skip(Index count) {
    at += kLine * count;
    for (left -= count; left <= 0 && runs > 0; --runs) {
      at += jump;
      left += lines;
    }
  }
};

/// How many lines of C the micro-kernel prefetches: none where k is so short that they could not arrive in time.
inline Index lines_of_c(Index k, int rows, int vectors) {
  return k < 128 ? 0 : Index{rows} * ((vectors * kLanes + kLine - 1) / kLine);
}

}  // namespace loopos::kernels::LOOPOS_ISA_NAME
