// The epilogue of the micro-kernel: it adds to the sums of a tile, which are still in registers, and stores them.
#pragma once

#include "kernels/gemm/block.h"
#include "kernels/gemm/register_tile.h"

namespace loopos::kernels::LOOPOS_ISA_NAME {

/// C tile = sums [+ C] [+ bias] [+ residual], in this order; ROWS rows of VECTORS vectors from (row, column), of which
/// vector j of a row holds lanes(j) numbers.
template <int ROWS, int VECTORS, class Lanes>
LOOPOS_INLINE inline void finish(V<float>* sums, const FloatBlock& g, Index row, Index column, Lanes&& lanes) {
  const Index stride = g.c.stride;
  float* c = g.c.data + row * stride + column;
  const auto add = [&](const float* from, Index from_stride) LOOPOS_INLINE {
    unrolled<ROWS * VECTORS>([&](auto t) LOOPOS_INLINE {
      constexpr int i = t / VECTORS, j = t % VECTORS;
      sums[t] = load<float>(from + i * from_stride + j * kLanes, lanes(j)) + sums[t];
    });
  };
  const Epilogue<float>& e = g.epilogue;
  if (e.accumulate) add(c, stride);
  if (e.bias) add(e.bias + column, 0);
  if (e.residual) add(e.residual + row * e.residual_stride + column, e.residual_stride);
  unrolled<ROWS * VECTORS>([&](auto t) LOOPOS_INLINE {
    constexpr int i = t / VECTORS, j = t % VECTORS;
    store<float>(sums[t], c + i * stride + j * kLanes, lanes(j));
  });
}

}  // namespace loopos::kernels::LOOPOS_ISA_NAME
