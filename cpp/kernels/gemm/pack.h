// Packing of float operands into the panels that the micro-kernel reads.
#pragma once

#include <cstring>

#include "kernels/gemm/block.h"
#include "kernels/gemm/transpose.h"

namespace loopos::kernels::LOOPOS_ISA_NAME {

/// pack of what is stored transposed: element (k, j) is at src[j * stride + k].
template <int WIDTH>
__attribute__((no_sanitize("undefined"))) inline void pack_transposed(const float* src, Index stride, Index k, Index n,
                                                                      float* dst) {
  for (Index panel = 0; panel < n; panel += WIDTH)
    for (int i = 0; i < WIDTH && panel + i < n; i += kLanes) {
      const int lanes = WIDTH - i < kLanes ? WIDTH - i : kLanes;
      const Index rows = n - panel - i < lanes ? n - panel - i : lanes;
      const float* from = src + (panel + i) * stride;
      float* to = dst + panel * k + i;
      for (Index p = 0; p < k; p += kLanes) {
        const int steps = static_cast<int>(k - p < kLanes ? k - p : kLanes);
        vfloat square[kLanes];
        if (rows == kLanes && steps == kLanes) {
          unrolled<kLanes>([&](auto r) LOOPOS_INLINE { square[r] = V<float>::load(from + r * stride + p).v; });
          transpose_square<1>(square);
          unrolled<kLanes>([&](auto u) LOOPOS_INLINE { V<float>(square[u]).store(to + (p + u) * WIDTH); });
        } else {
          unrolled<kLanes>([&](auto r) LOOPOS_INLINE {
            square[r] = r < rows ? V<float>::load(from + r * stride + p, steps).v : vfloat{};
          });
          transpose_square<1>(square);
          unrolled<kLanes>([&](auto u) LOOPOS_INLINE {
            if (u < steps) V<float>(square[u]).store(to + (p + u) * WIDTH, lanes);
          });
        }
      }
    }
}

/// Packs (k, n) into panels of WIDTH numbers per step of k. Element (k, j) is at src[k * stride + j], or, transposed,
/// at src[j * stride + k]. Zeros fill up the last vector that holds numbers.
template <int WIDTH>
inline void pack(const float* src, Index stride, bool transposed, Index k, Index n, float* dst) {
  if (transposed) return pack_transposed<WIDTH>(src, stride, k, n, dst);
  // The loops take a run of about 200 numbers of a row at a time, which the processor's own prefetch follows, and few
  // rows: the lines of the panels that they write may all fall into one set of the cache, which holds only so many, and
  // each is to be filled before it is evicted.
  constexpr Index kRows = 8, kPanels = WIDTH < 24 ? 192 / WIDTH : 8;
  for (Index j0 = 0; j0 < n; j0 += kPanels * WIDTH)
    for (Index p0 = 0; p0 < k; p0 += kRows)
      for (Index j = j0; j < n && j < j0 + kPanels * WIDTH; j += WIDTH)
        for (Index p = p0; p < k && p < p0 + kRows; ++p) {
          const float* from = src + p * stride + j;
          float* to = dst + j * k + p * WIDTH;
          if (n - j >= WIDTH) {
            std::memcpy(to, from, sizeof(float) * WIDTH);
            continue;
          }
          const int width = static_cast<int>(n - j);
          for (int i = 0; i < width; i += kLanes)
            V<float>::load(from + i, width - i < kLanes ? width - i : kLanes)
                .store(to + i, WIDTH - i < kLanes ? WIDTH - i : kLanes);
        }
}

inline void pack_b_float(const Matrix<float>& b, float* packed) {
  pack<NR>(b.data, b.stride, b.transposed, b.rows, b.columns, packed);
}

inline void pack_a_float(const Matrix<float>& a, float* packed) {
  pack<MR>(a.data, a.stride, !a.transposed, a.columns, a.rows, packed);
}

}  // namespace loopos::kernels::LOOPOS_ISA_NAME
