// Products with a weight that is stored small: packing into float panels, and a few rows times the weight in place.
// Both turn a stored number into the same float, and both add in the same order.
#pragma once

#include "kernels/gemm/block.h"
#include "kernels/gemm/prefetch.h"
#include "kernels/gemm/transpose.h"

namespace loopos::kernels::LOOPOS_ISA_NAME {

// Numbers of kLanes rows side by side in memory, as whole numbers.
inline vint wide_two(const unsigned char* p) {
#if defined(__AVX512F__)
  return (vint)_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
#elif defined(__AVX2__)
  return (vint)_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#else
  vint wide;
  for (int i = 0; i < kLanes; ++i) wide[i] = p[2 * i] | p[2 * i + 1] << 8;
  return wide;
#endif
}
inline vint wide_signed(const unsigned char* p) {
#if defined(__AVX512F__)
  return (vint)_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#elif defined(__AVX2__)
  return (vint)_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
#else
  vint wide;
  for (int i = 0; i < kLanes; ++i) wide[i] = static_cast<signed char>(p[i]);
  return wide;
#endif
}
inline V<float> float_bits(vint bits) {
  V<float> x;
  std::memcpy(&x.v, &bits, sizeof bits);
  return x;
}

/// Reads one panel of a weight (see Panels in matrix.h). The numbers of rows lane, lane + 1, ... of a column, as floats:
/// load(column(c), lane, scale(block(block_of(c)), lane)).
template <Storage kind>
struct Panel;

template <>
struct Panel<Storage::bfloat16> {
  static constexpr Index kColumnBytes = kLayout<Storage::bfloat16>.column_bytes;
  const unsigned char* data;

  struct Scale {};
  static Scale scale(const unsigned char*, Index) { return {}; }
  static Index block_of(Index) { return 0; }
  static Index block_end(Index) { return INT64_MAX; }
  const unsigned char* block(Index) const { return data; }
  const unsigned char* column(Index column) const { return data + column * kColumnBytes; }
  static V<float> load(const unsigned char* column, Index lane, Scale) {
    return float_bits(wide_two(column + 2 * lane) << 16);
  }
};

/// Of a kind whose blocks have scales.
template <Storage kind>
struct ScaledPanel {
  static constexpr PanelLayout kIn = kLayout<kind>;
  static constexpr Index kColumnBytes = kIn.column_bytes;
  const unsigned char* data;

  using Scale = V<float>;
  /// Of rows lane, lane + 1, ... in the block that begins at `block`: float16 as float. The shift leaves its exponent 112
  /// too small.
  static Scale scale(const unsigned char* block, Index lane) {
    return float_bits(wide_two(block + 2 * lane) << 13) * V<float>(0x1p112f);
  }
  static Index block_of(Index column) { return column / kIn.columns; }
  static Index block_end(Index block) { return (block + 1) * kIn.columns; }
  const unsigned char* block(Index block) const { return data + block * kBlockBytes<kind>; }
  const unsigned char* column(Index column) const {
    return block(block_of(column)) + kIn.scale_bytes + column % kIn.columns * kColumnBytes;
  }
};

template <>
struct Panel<Storage::int8> : ScaledPanel<Storage::int8> {
  /// A product of 7 and 11 bits: exact.
  static V<float> load(const unsigned char* column, Index lane, Scale scale) {
    return V<float>(__builtin_convertvector(wide_signed(column + lane), vfloat)) * scale;
  }
};

/// Of 4 bits, which are the place of the number in a table.
template <Storage kind>
struct FourBitPanel : ScaledPanel<kind> {
  using Scale = typename ScaledPanel<kind>::Scale;
  static V<float> load(const unsigned char* column, Index lane, Scale scale) {
    constexpr Index kBytes = kLayout<kind>.column_bytes;
    return levels(column + lane % kBytes, lane < kBytes ? 0 : 4) * scale;
  }

 private:
  /// The levels whose numbers are bits shift to shift + 3 of the bytes at p.
  static V<float> levels(const unsigned char* p, int shift) {
    const float* table = kLevels<kind>;
#if defined(__AVX512F__)
    const vint number = (vint)_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))) >> shift;
    return V<float>(
        (vfloat)_mm512_permutexvar_ps((__m512i)number, (__m512)V<float>::load(table).v));  // of its low 4 bits
#elif defined(__AVX2__)
    const vint number = (vint)_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))) >> shift;
    const __m256 low = _mm256_permutevar8x32_ps((__m256)V<float>::load(table).v, (__m256i)number);  // its low 3 bits
    const __m256 high = _mm256_permutevar8x32_ps((__m256)V<float>::load(table + 8).v, (__m256i)number);
    return V<float>((vfloat)_mm256_blendv_ps(low, high, (__m256)(number << 28)));
#else
    V<float> x;
    for (int i = 0; i < kLanes; ++i) x.v[i] = table[p[i] >> shift & 15];
    return x;
#endif
  }
};
template <>
struct Panel<Storage::nf4> : FourBitPanel<Storage::nf4> {};
template <>
struct Panel<Storage::int4> : FourBitPanel<Storage::int4> {};

/// body(begin, end, scales) for every run of columns [begin, end) that share their scales.
template <Storage kind, class Body>
LOOPOS_INLINE inline void for_each_block(const Panel<kind>& panel, Index begin, Index end, Body&& body) {
  for (Index at = begin; at < end;) {
    const Index block = Panel<kind>::block_of(at), next = Panel<kind>::block_end(block);
    const Index stop = next < end ? next : end;
    body(at, stop, panel.block(block));
    at = stop;
  }
}

template <Storage kind>
inline Panel<kind> panel_at(const Matrix<Panels<kind>>& w, Index row) {
  Panel<kind> panel;
  panel.data = w.data + row / kPanelRows * w.panel;
  return panel;
}

/// pack_b of (in, out): the lanes of a stored vector are columns of B already.
template <Storage kind>
inline void pack_stored_transposed(const Matrix<Panels<kind>>& b, float* packed) {
  const Index k = b.rows, n = b.columns;
  for (Index j = 0; j < n; j += kLanes) {
    const Index row = b.out + j, lane = row % kPanelRows;
    const Panel<kind> panel = panel_at(b, row);
    float* to = packed + j / NR * NR * k + j % NR;
    for_each_block(panel, b.in, b.in + k, [&](Index begin, Index end, const unsigned char* scales) {
      const auto scale = Panel<kind>::scale(scales, lane);
      const unsigned char* from = panel.column(begin);
      for (Index p = begin; p < end; ++p, from += Panel<kind>::kColumnBytes)
        Panel<kind>::load(from, lane, scale).store(to + (p - b.in) * NR);
    });
  }
}

/// pack_b of (out, in): squares are transposed in registers.
template <Storage kind>
inline void pack_stored_rows(const Matrix<Panels<kind>>& b, float* packed) {
  const Index k = b.rows, n = b.columns, first = b.out, last = b.out + k;
  for (Index j = 0; j < n; j += kLanes) {
    const int columns = static_cast<int>(n - j < kLanes ? n - j : kLanes);
    float* to = packed + j / NR * NR * k + j % NR;
    for (Index row = first / kLanes * kLanes; row < last; row += kLanes) {
      const Index lane = row % kPanelRows;
      const Panel<kind> panel = panel_at(b, row);
      vfloat square[kLanes];
      for (int i = 0; i < kLanes; ++i) {
        const Index column = b.in + j + i;
        square[i] = i < columns
                        ? Panel<kind>::load(panel.column(column), lane,
                                            Panel<kind>::scale(panel.block(Panel<kind>::block_of(column)), lane))
                              .v
                        : vfloat{};
      }
      transpose_square<1>(square);
      for (int u = 0; u < kLanes; ++u)
        if (row + u >= first && row + u < last) V<float>(square[u]).store(to + (row + u - first) * NR);
    }
  }
}

template <Storage kind>
inline void pack_stored(const Matrix<Panels<kind>>& b, float* packed) {
  b.transposed ? pack_stored_transposed(b, packed) : pack_stored_rows(b, packed);
}

constexpr int kPanelVectors = static_cast<int>(kPanelRows) / kLanes;

/// ROWS rows times COUNT panels over columns [begin, end), one block of depth; x is where the first row has its number
/// for column `begin`. Each sum is one chain over k in ascending order, as in the micro-kernel.
template <Storage kind, int ROWS, int COUNT>
LOOPOS_INLINE inline void add_panels(const Panel<kind>* panels, const float* x, Index x_stride, Index begin, Index end,
                                     V<float>* sums) {
  using P = Panel<kind>;
  constexpr Index kAhead = 1536;  // bytes that a panel is prefetched ahead
  for_each_block(panels[0], begin, end, [&](Index from, Index to, const unsigned char*) LOOPOS_INLINE {
    typename P::Scale scales[COUNT * kPanelVectors];
    const unsigned char* at[COUNT];
    unrolled<COUNT>([&](auto c) LOOPOS_INLINE {
      const unsigned char* block = panels[c].block(P::block_of(from));
      unrolled<kPanelVectors>([&](auto v)
                                  LOOPOS_INLINE { scales[c * kPanelVectors + v] = P::scale(block, v * kLanes); });
      at[c] = panels[c].column(from);
    });
    const float* here = x + (from - begin);
    for (Index p = 0; p < to - from; ++p) {
      V<float> factor[ROWS];
      unrolled<ROWS>([&](auto r) LOOPOS_INLINE { factor[r] = V<float>(here[r * x_stride + p]); });
      unrolled<COUNT>([&](auto c) LOOPOS_INLINE {
        if constexpr (COUNT > 1) prefetch<1>(at[c], kAhead);  // one stream the processor follows by itself
        unrolled<kPanelVectors>([&](auto v) LOOPOS_INLINE {
          constexpr int vector = c * kPanelVectors + v;
          const V<float> w = P::load(at[c], v * kLanes, scales[vector]);
          unrolled<ROWS>([&](auto r) LOOPOS_INLINE {
            V<float>& sum = sums[r * COUNT * kPanelVectors + vector];
            sum = fma(factor[r], w, sum);
          });
        });
        at[c] += P::kColumnBytes;
      });
    }
  });
}

template <Storage kind, int ROWS, int COUNT>
__attribute__((noinline, no_sanitize("undefined"))) void multiply_stored(const RowsBlock<kind>& g, Index row,
                                                                         Index column) {
  const Matrix<Panels<kind>>& w = g.weight;
  Panel<kind> panels[COUNT];
  for (int c = 0; c < COUNT; ++c) panels[c] = panel_at(w, w.out + column + c * kPanelRows);
  const float* x = g.x + row * g.x_stride;
  const Epilogue<float>& e = g.epilogue;
  for (Index p = 0; p < w.columns; p += g.depth) {
    const Index end = p + g.depth < w.columns ? p + g.depth : w.columns;
    V<float> sums[ROWS * COUNT * kPanelVectors];
    unrolled<ROWS * COUNT * kPanelVectors>([&](auto t) LOOPOS_INLINE { sums[t] = V<float>(vfloat{}); });
    add_panels<kind, ROWS, COUNT>(panels, x + p, g.x_stride, w.in + p, w.in + end, sums);
    unrolled<ROWS * COUNT * kPanelVectors>([&](auto t) LOOPOS_INLINE {
      constexpr int r = t / (COUNT * kPanelVectors);
      const Index j = column + t % (COUNT * kPanelVectors) * kLanes;
      if (j >= w.rows) return;
      const int lanes = static_cast<int>(w.rows - j < kLanes ? w.rows - j : kLanes);
      const auto load = [&](const float* from) LOOPOS_INLINE {
        return lanes == kLanes ? V<float>::load(from) : V<float>::load(from, lanes);
      };
      float* out = g.c.data + (row + r) * g.c.stride + j;
      V<float> y = sums[t];
      if (p > 0 || e.accumulate) y = load(out) + y;
      if (end == w.columns && e.bias) y = load(e.bias + j) + y;
      if (end == w.columns && e.residual) y = load(e.residual + (row + r) * e.residual_stride + j) + y;
      lanes == kLanes ? y.store(out) : y.store(out, lanes);
    });
  }
}

/// As many panels at once as their sums leave registers for the rest. One row of 8 or 4 bits goes through one panel at a
/// time: the memory then sees one stream, and the panel's few chains of sums are faster than the memory.
template <Storage kind, int ROWS>
inline void multiply_group(const RowsBlock<kind>& g, Index row) {
  constexpr int kSums = kVectorBytes == 64 ? 16 : 8, kFit = kSums / (ROWS * kPanelVectors);
  constexpr int kMost = kFit < 1 || (kind != Storage::bfloat16 && ROWS == 1) ? 1 : kFit < 4 ? kFit : 4;
  Index column = 0;
  for (; g.weight.rows - column > (kMost - 1) * kPanelRows; column += kMost * kPanelRows)
    multiply_stored<kind, ROWS, kMost>(g, row, column);
  const Index left = g.weight.rows - column;
  if constexpr (kMost > 2)
    if (left > 2 * kPanelRows) return multiply_stored<kind, ROWS, 3>(g, row, column);
  if constexpr (kMost > 1)
    if (left > kPanelRows) return multiply_stored<kind, ROWS, 2>(g, row, column);
  if (left > 0) multiply_stored<kind, ROWS, 1>(g, row, column);
}

/// Rows share what a stored vector is turned into.
template <Storage kind, int ROWS = kVectorBytes == 64   ? 8
                                   : kVectorBytes == 32 ? 2
                                                        : 1>
inline void multiply_rows_stored(const RowsBlock<kind>& g, Index row = 0) {
  for (; g.rows - row >= ROWS; row += ROWS) multiply_group<kind, ROWS>(g, row);
  if constexpr (ROWS > 1)
    if (row < g.rows) multiply_rows_stored<kind, ROWS - 1>(g, row);
}

}  // namespace loopos::kernels::LOOPOS_ISA_NAME
