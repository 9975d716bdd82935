// One row times a weight that is read in place.
#pragma once

#include "kernels/gemm/block.h"
#include "kernels/gemm/transpose.h"

namespace loopos::kernels::LOOPOS_ISA_NAME {

/// The rows of w are transposed in registers: each lane is the same chain over k as in the micro-kernel. As many rows as
/// a vector has lanes are one piece of memory where they lie one after another. It is read to its end before the next
/// one, which is prefetched meanwhile, in order: so the memory sees one stream.
inline void multiply_row_float(const float* x, const Matrix<float>& w, Index depth, bool add, float* y) {
  const Index n = w.rows;
  for (Index j = 0; j < n; j += kLanes) {
    const float* row[kLanes];
    for (int i = 0; i < kLanes; ++i) row[i] = w.data + (j + i < n ? j + i : n - 1) * w.stride;
    const float* ahead = w.data + (j + kLanes) * w.stride;
    for (Index begin = 0; begin < w.columns; begin += depth) {
      const Index k = begin + depth < w.columns ? begin + depth : w.columns;
      V<float> sum(0.0f);
      Index p = begin;
      for (; p + kLanes <= k; p += kLanes) {
        vfloat square[kLanes];
        for (int i = 0; i < kLanes; ++i) square[i] = V<float>::load(row[i] + p).v;
        for (int line = 0; line < kLanes * kLanes / kLine; ++line) __builtin_prefetch(ahead + line * kLine, 0, 2);
        ahead += kLanes * kLanes;
        transpose_square<1>(square);
        for (int i = 0; i < kLanes; ++i) sum = fma(V<float>(x[p + i]), V<float>(square[i]), sum);
      }
      for (; p < k; ++p) {
        float lanes[kLanes];
        for (int i = 0; i < kLanes; ++i) lanes[i] = row[i][p];
        sum = fma(V<float>(x[p]), V<float>::load(lanes), sum);
      }
      const int lanes = static_cast<int>(n - j < kLanes ? n - j : kLanes);
      if (add || begin > 0) sum = V<float>::load(y + j, lanes) + sum;
      sum.store(y + j, lanes);
    }
  }
}

}  // namespace loopos::kernels::LOOPOS_ISA_NAME
