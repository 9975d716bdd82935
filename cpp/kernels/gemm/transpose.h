// A square of vectors, transposed in registers.
#pragma once

#include "kernels/gemm/register_tile.h"

namespace loopos::kernels::LOOPOS_ISA_NAME {

/// One step of a transposition by halves: lanes kStep apart of a and b change places. kHigh: the second result.
template <int kStep, bool kHigh>
inline vfloat exchange(vfloat a, vfloat b) {
  vint from;
  for (int lane = 0; lane < kLanes; ++lane)
    from[lane] = (lane & kStep ? kLanes + lane - (kHigh ? 0 : kStep) : lane + (kHigh ? kStep : 0));
  return __builtin_shuffle(a, b, from);
}
template <int kStep>
inline void transpose_square(vfloat* rows) {
  if constexpr (kStep < kLanes) {
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i)
      if (!(i & kStep)) {
        const vfloat a = rows[i], b = rows[i + kStep];
        rows[i] = exchange<kStep, false>(a, b);
        rows[i + kStep] = exchange<kStep, true>(a, b);
      }
    transpose_square<2 * kStep>(rows);
  }
}

}  // namespace loopos::kernels::LOOPOS_ISA_NAME
