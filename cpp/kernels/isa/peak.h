// As many multiply-adds as the instruction set can do: what every other kernel is measured against.
#pragma once

#include "kernels/isa/vec.h"

namespace loopos::kernels::LOOPOS_ISA_NAME {

/// Runs `rounds` rounds of independent chains a = a m + c, and returns how many additions and multiplications that was.
/// A multiply-add takes 4 to 5 cycles and two can start in each: ten chains would keep both units busy. There are as
/// many as the registers hold beside m and c. The chains converge to c / (1 - m), so nothing overflows, and `out` (one
/// number) receives their sum, so that nothing can be left out.
inline Index multiply_adds(Index rounds, float* out) {
#if defined(__AVX512F__)
  constexpr int kChains = 24;  // of 32 registers
#else
  constexpr int kChains = 12;  // of 16
#endif
  const V<float> m(0.5f), c(1.0f);
  V<float> a[kChains];
  for (int i = 0; i < kChains; ++i) a[i] = V<float>(static_cast<float>(i));
  for (Index round = 0; round < rounds; ++round) {
#if defined(__GNUC__)
#pragma GCC unroll 32
#endif
    for (int i = 0; i < kChains; ++i) a[i] = fma(a[i], m, c);
  }
  double total = 0;
  for (int i = 0; i < kChains; ++i) total += sum(a[i]);
  *out = static_cast<float>(total);
  return rounds * kChains * V<float>::N * 2;
}

}  // namespace loopos::kernels::LOOPOS_ISA_NAME
