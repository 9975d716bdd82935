// Philox4x32-10: a counter-based random generator (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC
// 2011). A number is a function of (key, counter) alone, so it depends on no thread, no order and no earlier draw, and
// a run resumes by its counters.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>

namespace loopos {

using Philox4 = std::array<std::uint32_t, 4>;

inline Philox4 philox(std::uint64_t key, std::uint64_t counter_low, std::uint64_t counter_high) {
  std::uint32_t k0 = static_cast<std::uint32_t>(key), k1 = static_cast<std::uint32_t>(key >> 32);
  std::uint32_t c0 = static_cast<std::uint32_t>(counter_low), c1 = static_cast<std::uint32_t>(counter_low >> 32);
  std::uint32_t c2 = static_cast<std::uint32_t>(counter_high), c3 = static_cast<std::uint32_t>(counter_high >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = std::uint64_t{0xD2511F53u} * c0, p1 = std::uint64_t{0xCD9E8D57u} * c2;
    c0 = static_cast<std::uint32_t>(p1 >> 32) ^ c1 ^ k0;
    c1 = static_cast<std::uint32_t>(p1);
    c2 = static_cast<std::uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c3 = static_cast<std::uint32_t>(p0);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {c0, c1, c2, c3};
}

/// Uniform in (0, 1): 2^-33 .. 1 - 2^-33, never 0, so that its logarithm is finite.
inline double uniform_open(std::uint32_t bits) {
  return (bits + 0.5) * 0x1p-32;
}

/// Two independent standard normal numbers from the four words of one counter (Box-Muller).
inline std::array<double, 2> normal_pair(const Philox4& w) {
  const double u = uniform_open(w[0]) + w[1] * 0x1p-65;  // 64 bits: tails reach beyond 9 sigma
  const double r = std::sqrt(-2.0 * std::log(u)), a = 6.283185307179586476925 * uniform_open(w[2]);
  return {r * std::cos(a), r * std::sin(a)};
}

}  // namespace loopos
