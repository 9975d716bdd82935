// The float product: packing into panels and a register-tiled micro-kernel, after the layering of Goto and van de Geijn
// ("Anatomy of high-performance matrix multiplication", 2008) and BLIS. An element of C is one chain of multiply-adds
// over k in ascending order, whatever tile it falls into, so its bits depend on k alone.
#pragma once

#include "kernels/table.h"
#include "kernels/vec.h"

namespace loopos::kernels::LOOPOS_ISA_NAME {

constexpr int kLanes = V<float>::N;
constexpr int NV = 2;                            // vectors per row of the register tile
constexpr int MR = kVectorBytes == 64 ? 12 : 6;  // 24 accumulators of 32 registers, else 12 of 16
constexpr int NR = NV * kLanes;
constexpr int KC = 512;  // depth of a block: its panels of A and B pass through the first-level cache

constexpr int kPrefetchEvery = 4;  // steps of k for one cache line of the next panel

/// C tile (ROWS, width <= NR) = A (ROWS, k) panel of B (k, NR) [+ C] [+ bias] [+ residual]. Meanwhile `next`, the panel
/// of B to come, is brought nearer line by line: without that, the first tile of each panel waits for the outer cache.
template <int ROWS>
inline void micro(const FloatBlock& g, const float* a, Index row_stride, Index column_stride, const float* b,
                  Index b_row, const float* next, Index row, Index column, int width) {
  V<float> acc[ROWS][NV];
  float* c = g.c + row * g.ldc + column;
#pragma GCC unroll 12
  for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 2
    for (int j = 0; j < NV; ++j) acc[i][j] = V<float>(0.0f);
  const auto step = [&](Index p) {
    V<float> x[NV];
#pragma GCC unroll 2
    for (int j = 0; j < NV; ++j) x[j] = V<float>::load(b + p * b_row + j * kLanes);
    const float* from = a + p * column_stride;
#pragma GCC unroll 12
    for (int i = 0; i < ROWS; ++i) {
      const V<float> factor(from[i * row_stride]);
#pragma GCC unroll 2
      for (int j = 0; j < NV; ++j) acc[i][j] = fma(factor, x[j], acc[i][j]);
    }
  };
  if (g.k >= 128)  // else C is needed before it could have come
#pragma GCC unroll 12
    for (int i = 0; i < ROWS; ++i)
      for (int j = 0; j < NR; j += 16) __builtin_prefetch(c + i * g.ldc + j, 1);
  Index p = 0;
  for (; p + kPrefetchEvery <= g.k; p += kPrefetchEvery) {
    __builtin_prefetch(next, 0, 2);
    next += 16;
#pragma GCC unroll 4
    for (int u = 0; u < kPrefetchEvery; ++u) step(p + u);
  }
  for (; p < g.k; ++p) step(p);
  const auto finish = [&](V<float> x, Index i, Index j, auto count) {
    float* out = c + i * g.ldc + j;
    if (g.accumulate) x = load<float>(out, count) + x;
    if (g.bias) x = load<float>(g.bias + column + j, count) + x;
    if (g.residual) x = load<float>(g.residual + (row + i) * g.ld_residual + column + j, count) + x;
    store<float>(x, out, count);
  };
  if (width == NR) {
#pragma GCC unroll 12
    for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 2
      for (int j = 0; j < NV; ++j) finish(acc[i][j], i, j * kLanes, std::integral_constant<int, kLanes>{});
    return;
  }
  for (int i = 0; i < ROWS; ++i)
    for (int j = 0; j * kLanes < width; ++j) {
      const int n = width - j * kLanes < kLanes ? width - j * kLanes : kLanes;
      finish(acc[i][j], i, j * kLanes, n);
    }
}

template <int ROWS>
inline void call_micro(int rows, const FloatBlock& g, const float* a, const float* b, const float* next, Index row,
                       Index column, int width) {
  if constexpr (ROWS > 0) {
    if (rows == ROWS)
      micro<ROWS>(g, a, g.row_stride, g.column_stride, b, g.b_row, next, row, column, width);
    else
      call_micro<ROWS - 1>(rows, g, a, b, next, row, column, width);
  }
}

inline void multiply_float(const FloatBlock& g) {
  const Index lines = g.k / kPrefetchEvery * 16;  // of the next panel, brought in by one tile
  for (Index j = 0, panel = 0; j < g.n; j += NR, ++panel) {
    const int width = static_cast<int>(g.n - j < NR ? g.n - j : NR);
    const float* b = g.b + panel * g.b_panel;
    const float* next = b + g.b_panel;
    for (Index i = 0, row_panel = 0; i < g.m; i += MR, ++row_panel) {
      const int rows = static_cast<int>(g.m - i < MR ? g.m - i : MR);
      const float* a = g.a + row_panel * g.panel;
      const Index ahead = g.b_row == NR ? row_panel * lines : g.b_panel;
      const float* wanted = ahead < g.b_panel ? next + ahead : a;
      // The common full tile is called with constants, so that its addressing is folded into the instructions.
      if (rows == MR && g.column_stride == 1 && g.b_row == NR)
        micro<MR>(g, a, g.row_stride, 1, b, NR, wanted, i, j, width);
      else if (rows == MR && g.row_stride == 1 && g.column_stride == MR && g.b_row == NR)
        micro<MR>(g, a, 1, MR, b, NR, wanted, i, j, width);
      else
        call_micro<MR>(rows, g, a, b, wanted, i, j, width);
    }
  }
}

/// dst (columns, 4) = transpose of src (4, columns) for 4 rows at stride ld, four columns at a time.
inline void transpose_rows4(const float* src, Index ld, Index columns, float* dst, Index dst_stride) {
  typedef float quad __attribute__((vector_size(16)));
  typedef std::int32_t index4 __attribute__((vector_size(16)));
  const index4 low = {0, 4, 1, 5}, high = {2, 6, 3, 7}, first = {0, 1, 4, 5}, second = {2, 3, 6, 7};
  Index k = 0;
  for (; k + 4 <= columns; k += 4) {
    quad r[4];
    for (int i = 0; i < 4; ++i) std::memcpy(&r[i], src + i * ld + k, sizeof(quad));
    const quad a = __builtin_shuffle(r[0], r[1], low), b = __builtin_shuffle(r[0], r[1], high);
    const quad c = __builtin_shuffle(r[2], r[3], low), d = __builtin_shuffle(r[2], r[3], high);
    const quad out[4] = {__builtin_shuffle(a, c, first), __builtin_shuffle(a, c, second),
                         __builtin_shuffle(b, d, first), __builtin_shuffle(b, d, second)};
    for (int i = 0; i < 4; ++i) std::memcpy(dst + (k + i) * dst_stride, &out[i], sizeof(quad));
  }
  for (; k < columns; ++k)
    for (int i = 0; i < 4; ++i) dst[k * dst_stride + i] = src[i * ld + k];
}

/// Panels of WIDTH numbers per step of k, zero padded; element (k, j) is at src[k * ld + j], or at src[j * ld + k] when
/// transposed.
template <int WIDTH>
inline void pack(const float* src, Index ld, bool transposed, Index k, Index n, float* dst) {
  const Index whole = n / WIDTH * WIDTH;
  if (transposed) {
    for (Index j = 0; j < whole; j += WIDTH)
      for (int i = 0; i < WIDTH; i += 4)
        if (i + 4 <= WIDTH)
          transpose_rows4(src + (j + i) * ld, ld, k, dst + j * k + i, WIDTH);
        else
          for (int rest = i; rest < WIDTH; ++rest)
            for (Index p = 0; p < k; ++p) dst[j * k + p * WIDTH + rest] = src[(j + rest) * ld + p];
  } else {
    constexpr Index kRows = 8;  // so many rows at a time, that each of their cache lines is read once
    for (Index p0 = 0; p0 < k; p0 += kRows)
      for (Index j = 0; j < whole; j += WIDTH)
        for (Index p = p0; p < k && p < p0 + kRows; ++p)
          std::memcpy(dst + j * k + p * WIDTH, src + p * ld + j, sizeof(float) * WIDTH);
  }
  if (whole == n) return;
  dst += whole * k;
  for (Index p = 0; p < k; ++p)
    for (Index j = 0; j < WIDTH; ++j) {
      const Index at = whole + j;
      dst[p * WIDTH + j] = at < n ? transposed ? src[at * ld + p] : src[p * ld + at] : 0.0f;
    }
}

inline void pack_b_float(const float* b, Index ldb, bool transposed, Index k, Index n, float* packed) {
  pack<NR>(b, ldb, transposed, k, n, packed);
}

inline void pack_a_float(const float* a, Index lda, bool transposed, Index k, Index m, float* packed) {
  pack<MR>(a, lda, !transposed, k, m, packed);
}

/// One exchange of a transposition by halves: of a and b, lanes `step` apart change places. kHigh: the second result.
template <int kStep, bool kHigh>
inline vfloat exchange(vfloat a, vfloat b) {
  vint from;
  for (int lane = 0; lane < kLanes; ++lane)
    from[lane] = (lane & kStep ? kLanes + lane - (kHigh ? 0 : kStep) : lane + (kHigh ? kStep : 0));
  return __builtin_shuffle(a, b, from);
}
template <int kStep>
inline void transpose_square(vfloat* rows) {
  if constexpr (kStep < kLanes) {
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i)
      if (!(i & kStep)) {
        const vfloat a = rows[i], b = rows[i + kStep];
        rows[i] = exchange<kStep, false>(a, b);
        rows[i + kStep] = exchange<kStep, true>(a, b);
      }
    transpose_square<2 * kStep>(rows);
  }
}

/// The rows of w are turned in registers, so that each lane is the same chain over k as in `micro`.
inline void multiply_row_float(const float* x, const float* w, Index ld, Index n, Index k, float* y) {
  for (Index j = 0; j < n; j += kLanes) {
    const float* row[kLanes];
    for (int i = 0; i < kLanes; ++i) row[i] = w + (j + i < n ? j + i : n - 1) * ld;
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
