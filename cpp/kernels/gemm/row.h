// One row times a weight that is read in place.
#pragma once

#include "kernels/gemm/block.h"
#include "kernels/gemm/transpose.h"

namespace loopos::kernels::LOOPOS_ISA_NAME {

/// The rows of w are transposed in registers: each lane is the same chain over k as in the micro-kernel.
inline void multiply_row_float(const float* x, const Matrix<float>& w, float* y) {
  const Index n = w.rows, k = w.columns;
  for (Index j = 0; j < n; j += kLanes) {
    const float* row[kLanes];
    for (int i = 0; i < kLanes; ++i) row[i] = w.data + (j + i < n ? j + i : n - 1) * w.stride;
    V<float> sum(0.0f);
    Index p = 0;
    for (; p + kLanes <= k; p += kLanes) {
      vfloat square[kLanes];
      for (int i = 0; i < kLanes; ++i) square[i] = V<float>::load(row[i] + p).v;
      transpose_square<1>(square);
      for (int i = 0; i < kLanes; ++i) sum = fma(V<float>(x[p + i]), V<float>(square[i]), sum);
    }
    for (; p < k; ++p) {
      float lanes[kLanes];
      for (int i = 0; i < kLanes; ++i) lanes[i] = row[i][p];
      sum = fma(V<float>(x[p]), V<float>::load(lanes), sum);
    }
    if (n - j >= kLanes)
      sum.store(y + j);
    else
      sum.store(y + j, static_cast<int>(n - j));
  }
}

}  // namespace loopos::kernels::LOOPOS_ISA_NAME
