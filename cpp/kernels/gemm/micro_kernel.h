// The float product's micro-kernel, after the layering of Goto and van de Geijn ("Anatomy of high-performance matrix
// multiplication", 2008) and BLIS. An element of C is one chain of multiply-adds over k in ascending order, whatever
// tile it falls into, so its bits depend on k alone.
#pragma once

#include "kernels/gemm/epilogue.h"
#include "kernels/gemm/prefetch.h"
#include "kernels/gemm/strided_read.h"

namespace loopos::kernels::LOOPOS_ISA_NAME {

/// A panel of A whose rows are adjacent in memory: packed, or stored transposed.
template <int ROWS>
struct AdjacentRows {
  const float* at;
  Strides steps;
  AdjacentRows(const float* a, Index, Index column_stride) : at(a), steps(column_stride) {}
  template <int ROW, int STEP>
  V<float> get() const {
    return broadcast<STEP, ROW>(at, steps);
  }
  void move(int count) { at += count * steps.stride; }
};

/// A panel of A whose rows are row_stride apart and in one piece each; one pointer serves four rows.
template <int ROWS>
struct StridedRows {
  static constexpr int kPointers = (ROWS + 3) / 4;
  const float* at[kPointers];
  Strides rows;
  StridedRows(const float* a, Index row_stride, Index) : rows(row_stride) {
    for (int i = 0; i < kPointers; ++i) at[i] = a + 4 * i * row_stride;
  }
  template <int ROW, int STEP>
  V<float> get() const {
    return broadcast<ROW % 4, STEP>(at[ROW / 4], rows);
  }
  void move(int count) {
#pragma GCC unroll 4
    for (int i = 0; i < kPointers; ++i) at[i] += count;
  }
};

/// The micro-kernel: C tile (ROWS, width <= NR) = A (ROWS, k) B (k, NR) + epilogue, with VECTORS vectors in a row of
/// the tile. Meanwhile it prefetches C and a share of what is read next.
template <int ROWS, int VECTORS, template <int> class Panel>
__attribute__((noinline, no_sanitize("undefined"))) void micro_kernel(const FloatBlock& g, const float* a_panel,
                                                                      const float* b, const Walk& ahead, Index row,
                                                                      Index column, int width) {
  const Index k = g.k, stride = g.c.stride;
  float* c = g.c.data + row * stride + column;
  V<float> acc[ROWS * VECTORS];
  unrolled<ROWS * VECTORS>([&](auto t) LOOPOS_INLINE { acc[t] = V<float>(vfloat{}); });
  Panel<ROWS> a(a_panel, g.row_stride, g.column_stride);
  const Strides b_steps(g.b_row);
  const auto advance = [&](auto steps) LOOPOS_INLINE {
    unrolled<steps>([&](auto u) LOOPOS_INLINE {
      V<float> x[VECTORS];
      unrolled<VECTORS>([&](auto j) LOOPOS_INLINE { x[j] = read<u, j * kLanes>(b, b_steps); });
      unrolled<ROWS>([&](auto i) LOOPOS_INLINE {
        const V<float> factor = a.template get<i, u>();
        unrolled<VECTORS>([&](auto j) LOOPOS_INLINE { add_product(acc[i * VECTORS + j], factor, x[j]); });
      });
    });
    a.move(steps);
    b += steps * b_steps.stride;
  };
  // One cache line per step: C as a whole would hold up B, which comes through the same few fill buffers.
  Walk walk = ahead;
  if (const Index lines = lines_of_c(k, ROWS, VECTORS)) walk = Walk({c, ROWS, lines / ROWS, stride});
  Index p = 0;
  for (; p + kUnroll <= k; p += kUnroll) {
    __builtin_prefetch(walk.at, 0, 2);
    walk.next(ahead);
    advance(std::integral_constant<int, kUnroll>{});
  }
  for (; p < k; ++p) advance(std::integral_constant<int, 1>{});
  if (width == VECTORS * kLanes)
    finish<ROWS, VECTORS>(acc, g, row, column, [](int) LOOPOS_INLINE { return std::integral_constant<int, kLanes>{}; });
  else
    finish<ROWS, VECTORS>(acc, g, row, column,
                          [&](int j) LOOPOS_INLINE { return j + 1 < VECTORS ? kLanes : width - j * kLanes; });
}

/// The micro-kernel for as many rows, and as many vectors a row, as the tile has.
template <template <int> class Panel, int ROWS = MR, int VECTORS = NV>
inline void call_micro_kernel(int rows, int vectors, const FloatBlock& g, const float* a, const float* b,
                              const Walk& ahead, Index row, Index column, int width) {
  if constexpr (VECTORS > 1) {
    if (vectors < VECTORS)
      return call_micro_kernel<Panel, ROWS, VECTORS - 1>(rows, vectors, g, a, b, ahead, row, column, width);
  }
  if constexpr (ROWS > 1) {
    if (rows < ROWS)
      return call_micro_kernel<Panel, ROWS - 1, VECTORS>(rows, vectors, g, a, b, ahead, row, column, width);
  }
  micro_kernel<ROWS, VECTORS, Panel>(g, a, b, ahead, row, column, width);
}

template <template <int> class Panel>
inline void multiply_panels(const FloatBlock& g) {
  const Walk nowhere({g.a, KC, 1, 0});  // a line that the cache holds, again and again
  Walk ahead = g.prefetch.at ? Walk(g.prefetch) : nowhere;
  bool more = g.prefetch.at;
  for (Index j = 0, panel = 0; j < g.n; j += NR, ++panel) {
    const int width = static_cast<int>(g.n - j < NR ? g.n - j : NR), vectors = (width + kLanes - 1) / kLanes;
    const float* b = g.b + panel * g.b_panel;
    if (!g.prefetch.at && g.b_row == NR && j + NR < g.n) {  // B is packed: prefetch its next panel
      ahead = Walk({b + g.b_panel, 1, (g.k * NR + kLine - 1) / kLine, 0});
      more = true;
    }
    for (Index i = 0, row_panel = 0; i < g.m; i += MR, ++row_panel) {
      const int rows = static_cast<int>(g.m - i < MR ? g.m - i : MR);
      call_micro_kernel<Panel>(rows, vectors, g, g.a + row_panel * g.a_panel, b, ahead, i, j, width);
      if (!more) continue;
      ahead.skip(g.k / kUnroll - lines_of_c(g.k, rows, vectors));
      more = ahead.runs > 0;
      if (!more) ahead = nowhere;
    }
  }
}

inline void multiply_float(const FloatBlock& g) {
  if (g.row_stride == 1)
    multiply_panels<AdjacentRows>(g);
  else
    multiply_panels<StridedRows>(g);  // column_stride 1
}

}  // namespace loopos::kernels::LOOPOS_ISA_NAME
