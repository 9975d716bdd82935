// An optimizer's moments in fewer bits: float32 numbers to bfloat16, or to 8 bits and a scale for each block of 128, and
// back. Rounding goes up or down by chance, so that what is kept is right in the mean: rounded to the nearest, a second
// moment that changes by a thousandth would never change (a bfloat16 has 8 bits). Only what would become zero and must
// not is kept too large. Chance is a function of a word and of
// the place in the row; no thread and no order changes a bit.
//   bfloat16  x + r in the 16 bits that are dropped, r uniform; what would become infinite stays the largest number
//   8 bits    c(x) = bits(full |x| / scale + least) - bits(least), of which the upper bits are kept: beside the scale,
//             the largest |x|, a small float with 3 bits of mantissa, and below `least` a fixed step. Signed: 16 octaves
//             and the sign; not below zero: 32 octaves, and a number above zero never becomes zero, for updates are divided
//             by its root.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/isa/moments.h"

namespace loopos::kernels::LOOPOS_ISA_NAME {

/// 32 random bits: the finalizer of MurmurHash3 (Appleby 2011) on a Weyl sequence that starts at `word`.
inline std::uint32_t chance(std::uint32_t word, Index i) {
  std::uint32_t x = word + static_cast<std::uint32_t>(i) * 0x9E3779B9u;
  x = (x ^ (x >> 16)) * 0x85EBCA6Bu;
  x = (x ^ (x >> 13)) * 0xC2B2AE35u;
  return x ^ (x >> 16);
}

inline std::uint32_t bits_of(float x) {
  std::uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

inline float float_of(std::uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

template <class N>
inline N least_of(N a, N b) {
  return b < a ? b : a;
}
template <class N>
inline N most_of(N a, N b) {
  return a < b ? b : a;
}

constexpr std::uint32_t kSign = 0x80000000u, kFinite = 0x7F7FFFFFu;

inline float moments_to_bfloat16(const float* x, Index n, std::uint32_t word, std::uint16_t* out) {
  std::uint32_t top = 0;
  for (Index i = 0; i < n; ++i) {
    const std::uint32_t bits = bits_of(x[i]), size = least_of((bits & ~kSign) + (chance(word, i) >> 16), kFinite);
    top = most_of(top, size);
    out[i] = static_cast<std::uint16_t>(((bits & kSign) | size) >> 16);
  }
  return float_of(top & 0xFFFF0000u);
}

inline void moments_from_bfloat16(const std::uint16_t* x, Index n, float* out) {
  for (Index i = 0; i < n; ++i) out[i] = float_of(static_cast<std::uint32_t>(x[i]) << 16);
}

/// base: the upper 12 bits of `least`; most: the largest code.
template <bool negative>
struct MomentCode {
  static constexpr float least = negative ? 0x1p-15f : 0x1p-31f, full = negative ? 1.875f - 0x1p-15f : 1.875f;
  static constexpr std::uint32_t base = negative ? 112 << 3 : 96 << 3, most = negative ? 127 : 255;
};
constexpr float kLargestScale = 3e38f;    // a product with it, rounded, is finite
constexpr float kLeastScale = 0x1p-100f;  // the smallest number above zero beside it is one of float32

template <bool negative>
float to_codes(const float* x, Index n, std::uint32_t word, std::uint8_t* out, float* scales) {
  using Code = MomentCode<negative>;
  float top = 0;
  for (Index begin = 0; begin < n; begin += kMomentBlock) {
    const Index end = least_of(n, begin + kMomentBlock);
    std::uint32_t largest = 0;
    for (Index i = begin; i < end; ++i) largest = most_of(largest, bits_of(x[i]) & ~kSign);
    const float scale = most_of(least_of(float_of(largest), kLargestScale), kLeastScale);
    scales[begin / kMomentBlock] = scale;
    top = most_of(top, scale);
    for (Index i = begin; i < end; ++i) {
      const std::uint32_t bits = bits_of(x[i]);
      const float placed = float_of(bits & ~kSign) / scale * Code::full + Code::least;
      std::uint32_t code = least_of(((bits_of(placed) + (chance(word, i) >> 12)) >> 20) - Code::base, Code::most);
      if (negative)
        code |= (bits & kSign) >> 24;
      else
        code = most_of(code, bits != 0 ? 1u : 0u);
      out[i] = static_cast<std::uint8_t>(code);
    }
  }
  return top;
}

template <bool negative>
void from_codes(const std::uint8_t* x, const float* scales, Index n, float* out) {
  using Code = MomentCode<negative>;
  for (Index begin = 0; begin < n; begin += kMomentBlock) {
    const Index end = least_of(n, begin + kMomentBlock);
    const float unit = scales[begin / kMomentBlock] / Code::full;
    for (Index i = begin; i < end; ++i) {
      const std::uint32_t code = x[i] & Code::most;
      const float size = (float_of((code + Code::base) << 20) - Code::least) * unit;
      out[i] = negative ? float_of(bits_of(size) | (x[i] & 0x80u) << 24) : size;
    }
  }
}

}  // namespace loopos::kernels::LOOPOS_ISA_NAME
