// The register tile of the float product: its sizes, and loops over it that the compiler unrolls.
#pragma once

#include <utility>

#include "kernels/isa/vec.h"

namespace loopos::kernels::LOOPOS_ISA_NAME {

constexpr int kLanes = V<float>::N;
constexpr int NV = kVectorBytes == 64 ? 4 : 2;  // vectors per row of the register tile
constexpr int MR = 6;                           // 24 accumulators of 32 registers, else 12 of 16
constexpr int NR = NV * kLanes;
constexpr int KC = 512;  // depth of a block: a panel of B of this depth streams from the second-level cache

constexpr int kUnroll = 4;  // steps of k in one pass of the inner loop

// Hundreds of these are one tile: with a check of every reference that they capture, compiling them takes minutes.
#define LOOPOS_INLINE __attribute__((always_inline, no_sanitize("undefined")))

/// body(constant 0), ... body(constant COUNT - 1): an array indexed by these constants is kept in registers, by loop
/// counters only when the compiler unrolls in time.
template <class Body, int... I>
LOOPOS_INLINE inline void unrolled(std::integer_sequence<int, I...>, Body&& body) {
  (body(std::integral_constant<int, I>{}), ...);
}
template <int COUNT, class Body>
LOOPOS_INLINE inline void unrolled(Body&& body) {
  unrolled(std::make_integer_sequence<int, COUNT>{}, body);
}

}  // namespace loopos::kernels::LOOPOS_ISA_NAME
