// An optimizer's moments in fewer bits: the kernels of one instruction set, by pointer (see kernels/rows/moments.h).
#pragma once

#include <cstdint>

#include "core/check.h"

namespace loopos::kernels {

constexpr Index kMomentBlock = 128;  // numbers with one scale

/// Rounded by chance, which is of `word` and of the place in the row. What is packed is finite; its largest magnitude, as
/// kept, comes back. scales: one for each kMomentBlock.
struct MomentKernels {
  float (*to_bfloat16)(const float* x, Index n, std::uint32_t word, std::uint16_t* out);
  void (*from_bfloat16)(const std::uint16_t* x, Index n, float* out);
  // [whether they may be below zero]
  float (*to_codes[2])(const float* x, Index n, std::uint32_t word, std::uint8_t* out, float* scales);
  void (*from_codes[2])(const std::uint8_t* x, const float* scales, Index n, float* out);
};
const MomentKernels& moments();  // of the active instruction set

}  // namespace loopos::kernels
