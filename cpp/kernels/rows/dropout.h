// Philox4x32-10 (core/philox.h, which a file compiled per instruction set must not include) on as many counters at once
// as the registers hold, bit for bit the scalar generator. Each 64-bit lane carries one 32-bit word in its low half;
// the high half is never read (mul_epu32 multiplies low halves).
#pragma once

#include "kernels/isa/vec.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace loopos::kernels::LOOPOS_ISA_NAME {

typedef std::uint64_t vlong __attribute__((vector_size(kVectorBytes)));
constexpr int kCounters = kVectorBytes / 8;

inline vlong multiply_low_halves(vlong a, std::uint32_t b) {
  const vlong factor = vlong{} + b;
#if defined(__AVX512F__)
  return (vlong)_mm512_mul_epu32((__m512i)a, (__m512i)factor);
#elif defined(__AVX2__)
  return (vlong)_mm256_mul_epu32((__m256i)a, (__m256i)factor);
#elif defined(__SSE2__)
  return (vlong)_mm_mul_epu32((__m128i)a, (__m128i)factor);
#else
  return (a & 0xffffffffu) * factor;
#endif
}

/// The four words of the counters first, first + 1, ..., in order: words (kBatch kCounters 4). Two vectors of counters
/// run side by side, for one alone would wait on its multiplications.
constexpr int kBatch = 2;
constexpr int kBatchWords = kBatch * kCounters * 4;

inline void philox_batch(std::uint64_t key, std::uint64_t first, std::uint32_t* words) {
  vlong c0[kBatch], c1[kBatch], c2[kBatch], c3[kBatch];
  for (int b = 0; b < kBatch; ++b) {
    std::uint64_t counters[kCounters];
    for (int i = 0; i < kCounters; ++i) counters[i] = first + static_cast<std::uint64_t>(b * kCounters + i);
    std::memcpy(&c0[b], counters, sizeof counters);
    c1[b] = c0[b] >> 32;
    c2[b] = c3[b] = vlong{};
  }
  std::uint32_t k0 = static_cast<std::uint32_t>(key), k1 = static_cast<std::uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    for (int b = 0; b < kBatch; ++b) {
      const vlong p0 = multiply_low_halves(c0[b], 0xD2511F53u), p1 = multiply_low_halves(c2[b], 0xCD9E8D57u);
      c0[b] = (p1 >> 32) ^ c1[b] ^ std::uint64_t{k0};
      c1[b] = p1;
      c2[b] = (p0 >> 32) ^ c3[b] ^ std::uint64_t{k1};
      c3[b] = p0;
    }
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  for (int b = 0; b < kBatch; ++b) {
    const vlong front = (c0[b] & 0xffffffffu) | (c1[b] << 32), back = (c2[b] & 0xffffffffu) | (c3[b] << 32);
    vlong low{}, high{};  // front[0] back[0] front[1] back[1] ...
#if defined(__AVX512F__)
    const __m512i even = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11),
                  odd = _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15);
    low = (vlong)_mm512_permutex2var_epi64((__m512i)front, even, (__m512i)back);
    high = (vlong)_mm512_permutex2var_epi64((__m512i)front, odd, (__m512i)back);
#else
    for (int i = 0; i < kCounters / 2; ++i) {
      low[2 * i] = front[i], low[2 * i + 1] = back[i];
      high[2 * i] = front[kCounters / 2 + i], high[2 * i + 1] = back[kCounters / 2 + i];
    }
#endif
    std::memcpy(words + b * kCounters * 4, &low, sizeof low);
    std::memcpy(words + b * kCounters * 4 + kCounters * 2, &high, sizeof high);
  }
}

/// out[i] = scale where word i of the sequence of counters exceeds limit, else 0.
template <class T>
void dropout_scales(std::uint64_t seed, std::uint64_t first_counter, Index n, std::uint32_t limit, T scale, T* out) {
  alignas(64) std::uint32_t words[kBatchWords];
  for (Index done = 0; done < n; done += kBatchWords) {
    philox_batch(seed, first_counter + static_cast<std::uint64_t>(done / 4), words);
    if (n - done >= kBatchWords)
      for (int i = 0; i < kBatchWords; ++i) out[done + i] = words[i] > limit ? scale : T(0);
    else
      for (Index i = 0; i < n - done; ++i) out[done + i] = words[i] > limit ? scale : T(0);
  }
}

}  // namespace loopos::kernels::LOOPOS_ISA_NAME
