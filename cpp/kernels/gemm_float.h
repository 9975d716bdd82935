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
constexpr int KC = 256;  // a B panel of KC rows stays in the first-level cache

/// C tile (ROWS, width <= NR) = A (ROWS, k) panel of B (k, NR) [+ C].
template <int ROWS>
inline void micro(Index k, const float* a, Index row_stride, Index column_stride, const float* b, Index b_row, float* c,
                  Index ldc, int width, bool accumulate) {
  V<float> acc[ROWS][NV];
#pragma GCC unroll 12
  for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 2
    for (int j = 0; j < NV; ++j) acc[i][j] = V<float>(0.0f);
  for (Index p = 0; p < k; ++p) {
    V<float> row[NV];
#pragma GCC unroll 2
    for (int j = 0; j < NV; ++j) row[j] = V<float>::load(b + p * b_row + j * kLanes);
    const float* column = a + p * column_stride;
#pragma GCC unroll 12
    for (int i = 0; i < ROWS; ++i) {
      const V<float> x(column[i * row_stride]);
#pragma GCC unroll 2
      for (int j = 0; j < NV; ++j) acc[i][j] = fma(x, row[j], acc[i][j]);
    }
  }
  if (width == NR) {
#pragma GCC unroll 12
    for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 2
      for (int j = 0; j < NV; ++j) {
        float* out = c + i * ldc + j * kLanes;
        (accumulate ? V<float>::load(out) + acc[i][j] : acc[i][j]).store(out);
      }
    return;
  }
  for (int i = 0; i < ROWS; ++i)
    for (int j = 0; j * kLanes < width; ++j) {
      float* out = c + i * ldc + j * kLanes;
      const int n = width - j * kLanes < kLanes ? width - j * kLanes : kLanes;
      (accumulate ? V<float>::load(out, n) + acc[i][j] : acc[i][j]).store(out, n);
    }
}

template <int ROWS>
inline void call_micro(int rows, Index k, const float* a, Index row_stride, Index column_stride, const float* b,
                       Index b_row, float* c, Index ldc, int width, bool accumulate) {
  if constexpr (ROWS > 0) {
    if (rows == ROWS)
      micro<ROWS>(k, a, row_stride, column_stride, b, b_row, c, ldc, width, accumulate);
    else
      call_micro<ROWS - 1>(rows, k, a, row_stride, column_stride, b, b_row, c, ldc, width, accumulate);
  }
}

inline void multiply_float(const FloatBlock& g) {
  for (Index j = 0, panel = 0; j < g.n; j += NR, ++panel) {
    const int width = static_cast<int>(g.n - j < NR ? g.n - j : NR);
    const float* b = g.b + panel * g.b_panel;
    for (Index i = 0, row_panel = 0; i < g.m; i += MR, ++row_panel) {
      const int rows = static_cast<int>(g.m - i < MR ? g.m - i : MR);
      const float* a = g.a + row_panel * g.panel;
      float* c = g.c + i * g.ldc + j;
      // The common full tile is called with constants, so that its addressing is folded into the instructions.
      if (rows == MR && g.column_stride == 1)
        micro<MR>(g.k, a, g.row_stride, 1, b, g.b_row, c, g.ldc, width, g.accumulate);
      else if (rows == MR && g.row_stride == 1)
        micro<MR>(g.k, a, 1, g.column_stride, b, g.b_row, c, g.ldc, width, g.accumulate);
      else
        call_micro<MR>(rows, g.k, a, g.row_stride, g.column_stride, b, g.b_row, c, g.ldc, width, g.accumulate);
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

/// Panels of `width` numbers per step of k, zero padded; element (k, j) is at src[k * ld + j], or at src[j * ld + k]
/// when transposed.
template <int WIDTH>
inline void pack(const float* src, Index ld, bool transposed, Index k, Index n, float* dst) {
  for (Index j = 0; j < n; j += WIDTH, dst += k * WIDTH) {
    const int width = static_cast<int>(n - j < WIDTH ? n - j : WIDTH);
    if (transposed) {
      int i = 0;
      for (; i + 4 <= width; i += 4) transpose_rows4(src + (j + i) * ld, ld, k, dst + i, WIDTH);
      for (; i < width; ++i)
        for (Index p = 0; p < k; ++p) dst[p * WIDTH + i] = src[(j + i) * ld + p];
      for (; i < WIDTH; ++i)
        for (Index p = 0; p < k; ++p) dst[p * WIDTH + i] = 0.0f;
    } else if (width == WIDTH) {
      for (Index p = 0; p < k; ++p) std::memcpy(dst + p * WIDTH, src + p * ld + j, sizeof(float) * WIDTH);
    } else {
      for (Index p = 0; p < k; ++p) {
        std::memset(dst + p * WIDTH, 0, sizeof(float) * WIDTH);
        std::memcpy(dst + p * WIDTH, src + p * ld + j, sizeof(float) * static_cast<unsigned>(width));
      }
    }
  }
}

inline void pack_b_float(const float* b, Index ldb, bool transposed, Index k, Index n, float* packed) {
  pack<NR>(b, ldb, transposed, k, n, packed);
}

inline void pack_a_float(const float* a, Index lda, Index k, Index m, float* packed) {
  pack<MR>(a, lda, false, k, m, packed);
}

}  // namespace loopos::kernels::LOOPOS_ISA_NAME
