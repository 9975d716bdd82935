// What the micro-kernel prefetches while it computes: C, and a share of what is read next.
#pragma once

#include "kernels/gemm/block.h"
#include "kernels/gemm/register_tile.h"

namespace loopos::kernels::LOOPOS_ISA_NAME {

/// A walk through what is to be prefetched, line by line.
struct Walk {
  const float* at;
  Index left, runs, lines, jump;  // left: lines of this run; runs: with this one
  explicit Walk(const Prefetch& p)
      : at(p.at), left(p.lines), runs(p.runs), lines(p.lines), jump(p.stride - kLine * p.lines) {}
  /// One line on; behind the last, `then`.
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
  /// As many lines on; runs is 0 behind the last.
  void skip(Index count) {
    at += kLine * count;
    for (left -= count; left <= 0 && runs > 0; --runs) {
      at += jump;
      left += lines;
    }
  }
};

/// Lines of C that a tile prefetches while it is computed; none where they would be needed before they could arrive.
inline Index lines_of_c(Index k, int rows, int vectors) {
  return k < 128 ? 0 : Index{rows} * ((vectors * kLanes + kLine - 1) / kLine);
}

}  // namespace loopos::kernels::LOOPOS_ISA_NAME
