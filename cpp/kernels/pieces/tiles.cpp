// Products of pieces on the matrix tiles of AMX. A tile step is, for each element of C, two chains of 16 multiply-adds from
// zero, over even and over odd k, then C + (even + odd), rounded to nearest; denormals count as zero, and no flag is read
// or raised (measured: a model of it agrees in every bit; emulated.cpp is that model).
#include <immintrin.h>

#include "kernels/pieces/walk.h"

namespace loopos::kernels::LOOPOS_ISA_NAME {
namespace {

struct alignas(64) Configuration {
  std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
  std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
constexpr Configuration kAllFull;

/// Tiles 0 to 3 hold sums, 4 and 5 a piece of A, 6 and 7 one of B. Given up at the end of a block, so that a context
/// switch need not carry them.
struct Tiles {
  Tiles() { _tile_loadconfig(&kAllFull); }
  ~Tiles() { _tile_release(); }
};

// A product begins as soon as its first tiles are there: loads stand between.

template <int A, int B>
inline void add_product(const Bf16* a, const Bf16* b) {
  _tile_loadd(6, b + 2 * B * kTile, 64);
  _tile_loadd(4, a + 2 * A * kTile, 64);
  _tile_dpbf16ps(0, 4, 6);
  _tile_loadd(7, b + (2 * B + 1) * kTile, 64);
  _tile_dpbf16ps(1, 4, 7);
  _tile_loadd(5, a + (2 * A + 1) * kTile, 64);
  _tile_dpbf16ps(2, 5, 6);
  _tile_dpbf16ps(3, 5, 7);
}
/// Another piece of A times the piece of B that is in its tiles.
template <int A>
inline void add_with_a(const Bf16* a) {
  _tile_loadd(4, a + 2 * A * kTile, 64);
  _tile_dpbf16ps(0, 4, 6);
  _tile_dpbf16ps(1, 4, 7);
  _tile_loadd(5, a + (2 * A + 1) * kTile, 64);
  _tile_dpbf16ps(2, 5, 6);
  _tile_dpbf16ps(3, 5, 7);
}
/// The piece of A that is in its tiles times another piece of B.
template <int B>
inline void add_with_b(const Bf16* b) {
  _tile_loadd(6, b + 2 * B * kTile, 64);
  _tile_dpbf16ps(0, 4, 6);
  _tile_dpbf16ps(2, 5, 6);
  _tile_loadd(7, b + (2 * B + 1) * kTile, 64);
  _tile_dpbf16ps(1, 4, 7);
  _tile_dpbf16ps(3, 5, 7);
}

template <int A, int B>
inline void micro(const Bf16* a, const Bf16* b, Index steps, const Target& target, float* sums) {
  constexpr Index kA = 2 * A * kTile, kB = 2 * B * kTile;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  // The lines of C come while the tiles compute.
  const Index rows_a_step = (kUnits + steps - 1) / steps;
  const float* c = target.c;
  Index row = 0;
  for (Index s = 0; s < steps; ++s, a += kA, b += kB) {
    for (Index i = 0; i < rows_a_step && row < target.rows; ++i, ++row, c += target.stride) {
      _mm_prefetch(reinterpret_cast<const char*>(c), _MM_HINT_ET0);
      if (target.columns > kTileUnits) _mm_prefetch(reinterpret_cast<const char*>(c + kTileUnits), _MM_HINT_ET0);
    }
    if constexpr (A == 1) {
      add_product<0, 0>(a, b);
    } else if constexpr (A == 2) {
      add_product<1, 0>(a, b);
      add_with_a<0>(a);
      if constexpr (B == 2) add_with_b<1>(b);
    } else {
      add_product<2, 0>(a, b);
      add_with_a<1>(a);
      if constexpr (B == 3) {
        add_with_b<1>(b);
        add_with_a<0>(a);
        add_with_b<2>(b);
      }
    }
  }
  if constexpr (A == 3) {
    a -= steps * kA;
    b -= steps * kB;
    for (Index s = 0; s < steps; ++s, a += kA, b += kB) add_product<0, 0>(a, b);
  }
  _tile_stored(0, sums, 4 * kUnits);
  _tile_stored(1, sums + kTileUnits, 4 * kUnits);
  _tile_stored(2, sums + kTileUnits * kUnits, 4 * kUnits);
  _tile_stored(3, sums + kTileUnits * kUnits + kTileUnits, 4 * kUnits);
}

void multiply(const PieceBlock& g) {
  const Tiles tiles;
  const auto aside = [](auto&& body) {  // other code may use tiles of its own
    _tile_release();
    body();
    _tile_loadconfig(&kAllFull);
  };
  const bool one = g.b_pieces == 1;
  if (g.a_pieces == 1) return walk(g, micro<1, 1>, aside);
  if (g.a_pieces == 2) return one ? walk(g, micro<2, 1>, aside) : walk(g, micro<2, 2>, aside);
  one ? walk(g, micro<3, 1>, aside) : walk(g, micro<3, 3>, aside);
}

/// A vector into its pieces. The last is rounded when it is stored; the others have no lower half. No flag is raised: where
/// x is infinite the rest is NaN.
template <int PIECES>
inline void split(__m512 x, __m512* piece) {
  for (int p = 0; p + 1 < PIECES; ++p) {
    const __m512i half = _mm512_set1_epi32(0x8000), upper = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
    piece[p] = _mm512_castsi512_ps(_mm512_and_si512(_mm512_add_epi32(_mm512_castps_si512(x), half), upper));
    x = _mm512_sub_round_ps(x, piece[p], _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  piece[PIECES - 1] = x;
}

/// 16 x 16 numbers of 32 bits, in place.
inline void transpose(__m512i* r) {
  __m512i t[16];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
    r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
    r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
    r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0x88);
    t[4 + i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0xdd);
    t[8 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0x88);
    t[12 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0xdd);
  }
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    r[i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0x88);
    r[8 + i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0xdd);
  }
}

inline __mmask16 first(Index n) {
  return n >= 16 ? 0xffff : n <= 0 ? 0 : static_cast<__mmask16>((1u << n) - 1);
}

/// One step of 16 units: a tile of each piece, kTile * 2 apart. WHOLE: there are 16 units and 32 numbers of each. Where
/// the numbers lie as the tile has them nothing is transposed.
template <int PIECES, bool ALONG, bool IS_A, bool WHOLE>
inline void pack_tile(const float* x, Index stride, Index units, Index depth, Bf16* out) {
  __m512i rows[PIECES][16];
  const __mmask16 low = first(ALONG ? depth : units), high = first(depth - 16);
  const auto load = [&](const float* from, bool there, __mmask16 lanes) {
    if constexpr (WHOLE) return _mm512_loadu_ps(from);
    return there ? _mm512_maskz_loadu_ps(lanes, from) : _mm512_setzero_ps();
  };
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) {
    __m512 one[PIECES], two[PIECES];
    if constexpr (ALONG) {  // the numbers of unit i, in order
      split<PIECES>(load(x + i * stride, i < units, low), one);
      split<PIECES>(load(x + i * stride + 16, i < units, high), two);
    } else {  // numbers 2 i and 2 i + 1 of every unit
      split<PIECES>(load(x + 2 * i * stride, 2 * i < depth, low), one);
      split<PIECES>(load(x + (2 * i + 1) * stride, 2 * i + 1 < depth, low), two);
    }
    for (int p = 0; p < PIECES; ++p) {
      rows[p][i] = (__m512i)_mm512_cvtne2ps_pbh(two[p], one[p]);
      if constexpr (!ALONG) {
        alignas(64) static constexpr std::uint16_t kPairs[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                                 21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                                 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
        rows[p][i] = _mm512_permutexvar_epi16(_mm512_load_si512(kPairs), rows[p][i]);
      }
    }
  }
  for (int p = 0; p < PIECES; ++p) {
    if constexpr (ALONG != IS_A) transpose(rows[p]);
    for (int i = 0; i < 16; ++i) _mm512_storeu_si512(out + p * 2 * kTile + i * 32, rows[p][i]);
  }
}

template <int PIECES, bool ALONG, bool IS_A>
void pack_units(const Units& g, Bf16* panels) {
  const Index steps = (g.depth + kTileDepth - 1) / kTileDepth, count = (g.units + kUnits - 1) / kUnits;
  const auto tile = [&](Index panel, Index step, int half) {
    const Index unit = panel * kUnits + half * kTileUnits, p = step * kTileDepth;
    const Index units = g.units - unit, depth = g.depth - p;
    Bf16* out = panels + (panel * steps + step) * (2 * PIECES * kTile) + half * kTile;
    const float* from = g.x + (ALONG ? unit * g.stride + p : p * g.stride + unit);
    if (units >= kTileUnits && depth >= kTileDepth)
      pack_tile<PIECES, ALONG, IS_A, true>(from, g.stride, kTileUnits, kTileDepth, out);
    else if (units > 0)
      pack_tile<PIECES, ALONG, IS_A, false>(from, g.stride, units, depth, out);
    else
      for (int piece = 0; piece < PIECES; ++piece) std::memset(out + piece * 2 * kTile, 0, sizeof(Bf16) * kTile);
  };
  if constexpr (ALONG) {
    for (Index panel = 0; panel < count; ++panel)
      for (int half = 0; half < 2; ++half)
        for (Index step = 0; step < steps; ++step) tile(panel, step, half);
  } else {
    for (Index step = 0; step < steps; ++step)
      for (Index panel = 0; panel < count; ++panel)
        for (int half = 0; half < 2; ++half) tile(panel, step, half);
  }
}

template <int PIECES>
void pack_pieces(const Units& g, bool is_a, Bf16* panels) {
  if (g.along)
    is_a ? pack_units<PIECES, true, true>(g, panels) : pack_units<PIECES, true, false>(g, panels);
  else
    is_a ? pack_units<PIECES, false, true>(g, panels) : pack_units<PIECES, false, false>(g, panels);
}

void pack(const Units& g, bool is_a, int pieces, Bf16* panels) {
  if (pieces == 1) return pack_pieces<1>(g, is_a, panels);
  if (pieces == 2) return pack_pieces<2>(g, is_a, panels);
  pack_pieces<3>(g, is_a, panels);
}

}  // namespace

PieceKernels piece_kernels() {
  return {pack, multiply};
}

}  // namespace loopos::kernels::LOOPOS_ISA_NAME
