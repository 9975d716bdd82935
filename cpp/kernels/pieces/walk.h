// The way through a block of C, tile by tile, and what is done with the sums of a tile.
#pragma once

#include "kernels/isa/vec.h"
#include "kernels/pieces/pieces.h"

namespace loopos::kernels::LOOPOS_ISA_NAME {

/// The memory of the tile of C whose sums are computed: (rows, columns).
struct Target {
  const float* c;
  Index stride, rows, columns;
};

constexpr int kSumVectors = kUnits / V<float>::N;  // of a row of sums

inline vint bits_of(const float* x) {
  vint bits;
  std::memcpy(&bits, x, sizeof bits);
  return bits;
}
constexpr std::int32_t kInfinity = 0x7f800000;

/// Without a floating-point operation: no flag is raised by what is only looked at.
inline bool finite_sums(const float* sums) {
  vint largest{};
  for (Index i = 0; i < kUnits * kUnits; i += V<float>::N) {
    const vint size = bits_of(sums + i) & 0x7fffffff;
    largest = size > largest ? size : largest;
  }
  std::int32_t top = 0;
  for (int i = 0; i < V<float>::N; ++i) top = largest[i] > top ? largest[i] : top;
  return top < kInfinity;
}

inline bool finite(float x) {
  std::int32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return (bits & kInfinity) != kInfinity;
}

/// Computes the sums that are not finite again, by multiply-adds: so what is infinite stays so where pieces give inf - inf,
/// what only rounding to bfloat16 made infinite is finite, and flags are raised as ever. (m, n) of the tile are of C.
inline void settle(const PieceBlock& g, Index row, Index column, Index m, Index n, float* sums) {
  alignas(64) float again[kUnits * kUnits];
  const auto sick = [&](Index i) {
    for (Index j = 0; j < n; ++j)
      if (!finite(sums[i * kUnits + j])) return true;
    return false;
  };
  for (Index first = 0; first < m; ++first) {
    Index end = first;
    while (end < m && sick(end)) ++end;
    if (end == first) continue;
    g.again(g.product, row + first, column, end - first, n, again);
    for (Index i = first; i < end; ++i)
      for (Index j = 0; j < n; ++j) {
        float& x = sums[i * kUnits + j];
        if (!finite(x)) x = again[(i - first) * kUnits + j];
      }
    first = end;
  }
}

/// C tile (m, n) = sums [+ C] [+ bias] [+ residual], in this order.
inline void finish(const PieceBlock& g, Index row, Index column, Index m, Index n, const float* sums) {
  const Epilogue<float>& e = g.epilogue;
  float* c = g.c.data + row * g.c.stride + column;
  const float* bias = e.bias ? e.bias + column : nullptr;
  const float* residual = e.residual ? e.residual + row * e.residual_stride + column : nullptr;
  const auto rows = [&](auto lanes) {
    for (Index i = 0; i < m; ++i, c += g.c.stride, sums += kUnits) {
      for (int j = 0; j < kSumVectors; ++j) {
        const int at = j * V<float>::N, count = lanes(at);
        if (count <= 0) break;
        V<float> x = V<float>::load(sums + at);
        const auto add = [&](const float* from) {
          x = (count == V<float>::N ? V<float>::load(from + at) : V<float>::load(from + at, count)) + x;
        };
        if (e.accumulate) add(c);
        if (bias) add(bias);
        if (residual) add(residual);
        if (count == V<float>::N)
          x.store(c + at);
        else
          x.store(c + at, count);
      }
      if (residual) residual += e.residual_stride;
    }
  };
  if (n == kUnits)
    rows([](int) { return V<float>::N; });
  else
    rows([n](int at) { return n - at < V<float>::N ? static_cast<int>(n - at) : V<float>::N; });
}

/// All tiles of a block. micro(a, b, steps, target, sums): sums (kUnits, kUnits) of a panel of A times one of B.
/// aside(body): calls body(), which may be any code, while the micro-kernel holds nothing of the processor.
template <class Micro, class Aside>
void walk(const PieceBlock& g, Micro&& micro, Aside&& aside) {
  alignas(64) float sums[kUnits * kUnits];
  const Index row_panels = (g.m + kUnits - 1) / kUnits, column_panels = (g.n + kUnits - 1) / kUnits;
  const Index inner = g.down ? row_panels : column_panels, count = row_panels * column_panels;
  for (Index t = 0; t < count; ++t) {
    const Index i = g.down ? t % inner : t / inner, j = g.down ? t / inner : t % inner;
    const Index row = i * kUnits, column = j * kUnits;
    const Index m = g.m - row < kUnits ? g.m - row : kUnits, n = g.n - column < kUnits ? g.n - column : kUnits;
    const Target target{g.c.data + row * g.c.stride + column, g.c.stride, m, n};
    micro(g.a + i * g.a_panel, g.b + j * g.b_panel, g.steps, target, sums);
    if (!finite_sums(sums)) aside([&] { settle(g, row, column, m, n, sums); });
    finish(g, row, column, m, n, sums);
  }
}

}  // namespace loopos::kernels::LOOPOS_ISA_NAME
