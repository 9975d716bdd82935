// float32 numbers as bfloat16 on the wire between processes, rounded to the nearest, ties to even. What rounding takes away
// is owed, and added to the next numbers of the same place. One pass over memory, by the thread that calls.
#pragma once

#include <cstdint>
#include <cstring>

#include "core/check.h"

namespace loopos {

inline std::uint32_t bits_of(float x) {
  std::uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

inline std::uint16_t nearest_bfloat16(float x) {
  const std::uint32_t bits = bits_of(x), nearest = (bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16;
  const bool nan = (bits & 0x7FFFFFFFu) > 0x7F800000u;  // whose rounding could carry into the sign
  return static_cast<std::uint16_t>(nan ? 0x7FC0u : nearest);
}

inline float of_bfloat16(std::uint16_t half) {
  const std::uint32_t bits = static_cast<std::uint32_t>(half) << 16;
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

inline void from_bfloat16(const std::uint16_t* x, Index n, float* out) {
  for (Index i = 0; i < n; ++i) out[i] = of_bfloat16(x[i]);
}

/// Rounds x + owed, and leaves in `owed` what that took away; whether all of it is finite. No two of the arrays overlap.
inline bool round_with_owed(const float* __restrict x, Index n, float* __restrict owed, std::uint16_t* __restrict out) {
  constexpr std::uint32_t kExponent = 0x7F800000u;
  std::uint32_t bad = 0;
  for (Index i = 0; i < n; ++i) {
    const float given = owed[i] + x[i];
    const std::uint16_t half = nearest_bfloat16(given);
    const float left = given - of_bfloat16(half);
    out[i] = half;
    owed[i] = left;
    bad |= (bits_of(left) & kExponent) == kExponent ? 1u : 0u;
  }
  return bad == 0;
}

}  // namespace loopos
