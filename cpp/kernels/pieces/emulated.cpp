// What the tiles of AMX compute (tiles.cpp), in plain code and vectors of multiply-adds: bit for bit, on any x86 processor
// that has them. It is for tests.
#include "kernels/pieces/walk.h"

#if defined(__FMA__)
#include <immintrin.h>
#endif

namespace loopos::kernels::LOOPOS_ISA_NAME {

#if defined(__FMA__)
namespace {

/// Rounds to nearest, denormals count as zero, nothing traps; the caller's state comes back, flags too.
struct TileArithmetic {
  const unsigned before = _mm_getcsr();
  TileArithmetic() { _mm_setcsr(0x9fc0); }
  ~TileArithmetic() { _mm_setcsr(before); }
};

inline std::uint32_t word(float x) {
  std::uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}
inline float number(std::uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

/// To nearest, ties to even; a denormal becomes zero and a NaN quiet.
Bf16 rounded(float x) {
  const std::uint32_t bits = word(x), exponent = bits & 0x7f800000u, fraction = bits & 0x007fffffu;
  if (exponent == 0) return static_cast<Bf16>(bits >> 16 & 0x8000u);
  if (exponent == 0x7f800000u) return static_cast<Bf16>(bits >> 16 | (fraction ? 0x40u : 0u));
  return static_cast<Bf16>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

void store_pieces(float x, int pieces, Bf16* first) {
  for (int p = 1; p < pieces; ++p) {
    const float upper = number((word(x) + 0x8000u) & 0xffff0000u);
    *first = static_cast<Bf16>(word(upper) >> 16);
    if ((word(upper) & 0x7f800000u) == 0) *first &= 0x8000u;
    first += 2 * kTile;
    x = x - upper;
  }
  *first = rounded(x);
}

void pack(const Units& g, bool is_a, int pieces, Bf16* panels) {
  const Index steps = (g.depth + kTileDepth - 1) / kTileDepth, count = (g.units + kUnits - 1) / kUnits;
  const Index size = 2 * pieces * kTile;
  const unsigned before = _mm_getcsr();
  for (Index panel = 0; panel < count; ++panel)
    for (Index step = 0; step < steps; ++step)
      for (Index u = 0; u < kUnits; ++u)
        for (Index p = 0; p < kTileDepth; ++p) {
          const Index unit = panel * kUnits + u, at = step * kTileDepth + p, within = u % kTileUnits;
          const bool there = unit < g.units && at < g.depth;
          const float x = !there ? 0 : g.along ? g.x[unit * g.stride + at] : g.x[at * g.stride + unit];
          const Index place = is_a ? within * kTileDepth + p : p / 2 * 2 * kTileUnits + 2 * within + p % 2;
          store_pieces(x, pieces, panels + (panel * steps + step) * size + u / kTileUnits * kTile + place);
        }
  _mm_setcsr(before);
}

inline V<float> lanes_of(vint bits) {
  V<float> x;
  std::memcpy(&x.v, &bits, sizeof bits);
  return x;
}

/// Adds a tile of A times one of B to 16 x 16 sums, rows kUnits apart.
inline void add_product(const Bf16* a, const Bf16* b, float* sums) {
  for (Index i = 0; i < kTileUnits; ++i)
    for (Index j = 0; j < kTileUnits; j += V<float>::N) {
      V<float> even(0.0f), odd(0.0f);
      for (Index pair = 0; pair < kTileDepth / 2; ++pair) {
        vint both;
        std::memcpy(&both, b + pair * 2 * kTileUnits + 2 * j, sizeof both);
        const std::uint32_t x = a[i * kTileDepth + 2 * pair], y = a[i * kTileDepth + 2 * pair + 1];
        even = fma(V<float>(number(x << 16)), lanes_of(both << 16), even);
        odd = fma(V<float>(number(y << 16)), lanes_of(both & static_cast<std::int32_t>(0xffff0000u)), odd);
      }
      float* at = sums + i * kUnits + j;
      (V<float>::load(at) + (even + odd)).store(at);
    }
}

void multiply(const PieceBlock& g) {
  struct Term {
    int a, b;
  };
  constexpr Term kOne[] = {{0, 0}}, kThree[] = {{1, 0}, {0, 0}, {0, 1}},
                 kSmall[] = {{2, 0}, {1, 0}, {1, 1}, {0, 1}, {0, 2}};
  const Index a_size = 2 * g.a_pieces * kTile, b_size = 2 * g.b_pieces * kTile;
  const auto micro = [&](const Bf16* a, const Bf16* b, Index steps, const Target&, float* sums) {
    const TileArithmetic arithmetic;
    std::memset(sums, 0, sizeof(float) * kUnits * kUnits);
    const auto sweep = [&](const auto& added) {
      for (Index s = 0; s < steps; ++s)
        for (const Term& t : added)
          for (Index half = 0; half < 4; ++half)
            if (t.b < g.b_pieces)
              add_product(a + s * a_size + (2 * t.a + half / 2) * kTile, b + s * b_size + (2 * t.b + half % 2) * kTile,
                          sums + half / 2 * kTileUnits * kUnits + half % 2 * kTileUnits);
    };
    if (g.a_pieces == 2) return sweep(kThree);
    if (g.a_pieces == 3) sweep(kSmall);
    sweep(kOne);
  };
  walk(g, micro, [](auto&& body) { body(); });
}

}  // namespace

PieceKernels emulated_pieces() {
  return {pack, multiply};
}
#else
PieceKernels emulated_pieces() {
  return {};
}
#endif

}  // namespace loopos::kernels::LOOPOS_ISA_NAME
