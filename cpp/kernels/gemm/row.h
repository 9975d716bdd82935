// One row times a weight that is read in place.
#pragma once

#include "kernels/gemm/block.h"
#include "kernels/gemm/prefetch.h"
#include "kernels/gemm/transpose.h"

namespace loopos::kernels::LOOPOS_ISA_NAME {

/// The rows of w are transposed in registers: each lane is the same chain over k as in the micro-kernel. A group of as
/// many rows as a vector has lanes is read to its end before the next one, which is prefetched meanwhile from its first
/// number on: so the memory sees one stream where the rows lie one after another.
inline void multiply_row_float(const float* x, const Matrix<float>& w, Index depth, bool add, float* y) {
  const Index n = w.rows;
  for (Index j = 0; j < n; j += kLanes) {
    const float* row[kLanes];
    for (int i = 0; i < kLanes; ++i) row[i] = w.data + (j + i < n ? j + i : n - 1) * w.stride;
    Index ahead = kLanes * w.stride;  // of what is prefetched, in numbers from the first row on
    for (Index begin = 0; begin < w.columns; begin += depth) {
      const Index k = begin + depth < w.columns ? begin + depth : w.columns;
      V<float> sum(0.0f);
      Index p = begin;
      for (; p + kLanes <= k; p += kLanes) {
        vfloat square[kLanes];
        for (int i = 0; i < kLanes; ++i) square[i] = V<float>::load(row[i] + p).v;
        for (int line = 0; line < kLanes * kLanes / kLine; ++line) prefetch<2>(row[0], 4 * (ahead + line * kLine));
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
