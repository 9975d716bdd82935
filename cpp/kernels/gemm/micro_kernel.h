// The float product: packing into panels and a register-tiled micro-kernel, after the layering of Goto and van de Geijn
// ("Anatomy of high-performance matrix multiplication", 2008) and BLIS. An element of C is one chain of multiply-adds
// over k in ascending order, whatever tile it falls into, so its bits depend on k alone.
#pragma once

#include <utility>

#include "kernels/isa/table.h"
#include "kernels/isa/vec.h"

namespace loopos::kernels::LOOPOS_ISA_NAME {

constexpr int kLanes = V<float>::N;
constexpr int NV = kVectorBytes == 64 ? 4 : 2;  // vectors per row of the register tile
constexpr int MR = 6;                           // 24 accumulators of 32 registers, else 12 of 16
constexpr int NR = NV * kLanes;
constexpr int KC = 512;  // depth of a block: a panel of B of this depth streams from the second-level cache

constexpr int kUnroll = 4;  // steps of k in one turn of the loop

/// Reaches 0 to 3 strides from a pointer: an address holds each of them as one register besides the pointer.
struct Strides {
  Index stride, triple;
  explicit Strides(Index s) : stride(s), triple(3 * s) {}
};

// The inner loop is written with instructions, as it is bound by how many there are: left to itself the compiler keeps
// a pointer for each row and step, far more than there are registers, and copies the sums back and forth. Not under
// AddressSanitizer, which could not see what is read.
#if defined(__AVX2__) && !defined(__SANITIZE_ADDRESS__)
#if defined(__AVX512F__)
#define LOOPOS_VECTOR "v"
#else
#define LOOPOS_VECTOR "x"
#endif
/// What `instruction` (broadcast or move) reads at pointer[STEPS stride + OFFSET].
#define LOOPOS_READ(instruction)                                                                           \
  V<float> x;                                                                                              \
  const auto& memory = *reinterpret_cast<const float (*)[]>(pointer);                                      \
  if constexpr (STEPS == 0)                                                                                \
    asm(instruction " %c2(%1), %0" : "=" LOOPOS_VECTOR(x.v) : "r"(pointer), "i"(4 * OFFSET), "m"(memory)); \
  else if constexpr (STEPS == 3)                                                                           \
    asm(instruction " %c3(%1,%2,4), %0"                                                                    \
        : "=" LOOPOS_VECTOR(x.v)                                                                           \
        : "r"(pointer), "r"(strides.triple), "i"(4 * OFFSET), "m"(memory));                                \
  else                                                                                                     \
    asm(instruction " %c3(%1,%2,%c4), %0"                                                                  \
        : "=" LOOPOS_VECTOR(x.v)                                                                           \
        : "r"(pointer), "r"(strides.stride), "i"(4 * OFFSET), "i"(4 * STEPS), "m"(memory));                \
  return x
template <int STEPS, int OFFSET>
inline V<float> broadcast(const float* pointer, const Strides& strides) {
  LOOPOS_READ("vbroadcastss");
}
template <int STEPS, int OFFSET>
inline V<float> read(const float* pointer, const Strides& strides) {
  LOOPOS_READ("vmovups");
}
inline void add_product(V<float>& sum, V<float> a, V<float> b) {
  asm("vfmadd231ps %2, %1, %0" : "+" LOOPOS_VECTOR(sum.v) : LOOPOS_VECTOR(a.v), LOOPOS_VECTOR(b.v));
}
#undef LOOPOS_READ
#undef LOOPOS_VECTOR
#else
template <int STEPS, int OFFSET>
inline V<float> broadcast(const float* pointer, const Strides& strides) {
  return V<float>(pointer[STEPS * strides.stride + OFFSET]);
}
template <int STEPS, int OFFSET>
inline V<float> read(const float* pointer, const Strides& strides) {
  return V<float>::load(pointer + STEPS * strides.stride + OFFSET);
}
inline void add_product(V<float>& sum, V<float> a, V<float> b) {
  sum = fma(a, b, sum);
}
#endif

/// The rows of a panel of A that lie side by side.
template <int ROWS>
struct SideBySide {
  const float* at;
  Strides steps;
  SideBySide(const float* a, Index, Index column_stride) : at(a), steps(column_stride) {}
  template <int ROW, int STEP>
  V<float> get() const {
    return broadcast<STEP, ROW>(at, steps);
  }
  void move(int count) { at += count * steps.stride; }
};

/// The rows of a panel of A of which each lies in one piece; one pointer for four of them.
template <int ROWS>
struct EachInOnePiece {
  static constexpr int kPointers = (ROWS + 3) / 4;
  const float* at[kPointers];
  Strides rows;
  EachInOnePiece(const float* a, Index row_stride, Index) : rows(row_stride) {
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

// Hundreds of these are one tile: with a check of every reference that they capture, compiling them takes minutes.
#define LOOPOS_INLINE __attribute__((always_inline, no_sanitize("undefined")))

/// body(constant 0), ... body(constant COUNT - 1): an array indexed by these constants is kept in registers, by loop
/// counters only when the compiler unrolls in time.
template <class Body, int... I>
LOOPOS_INLINE inline void unrolled(std::integer_sequence<int, I...>, Body&& body) {
  (body(std::integral_constant<int, I>{}), ...);
}
template <int COUNT, class Body>
LOOPOS_INLINE inline void unrolled(Body&& body) {
  unrolled(std::make_integer_sequence<int, COUNT>{}, body);
}

/// A walk through what is to be prefetched, line by line.
struct Walk {
  const float* at;
  Index left, runs, lines, jump;  // left: lines of this run; runs: with this one
  explicit Walk(const Prefetch& p)
      : at(p.at), left(p.lines), runs(p.runs), lines(p.lines), jump(p.stride - kLine * p.lines) {}
  /// One line on; behind the last, `then`.
  LOOPOS_INLINE void next(const Walk& then) {
    at += kLine;
    if (--left > 0) return;
    if (--runs > 0) {
      at += jump;
      left = lines;
    } else {
      *this = then;
    }
  }
  /// As many lines on; runs is 0 behind the last.
  void skip(Index count) {
    at += kLine * count;
    for (left -= count; left <= 0 && runs > 0; --runs) {
      at += jump;
      left += lines;
    }
  }
};

/// Lines of C that a tile prefetches while it is computed; none where they would be needed before they could arrive.
inline Index lines_of_c(Index k, int rows, int vectors) {
  return k < 128 ? 0 : Index{rows} * ((vectors * kLanes + kLine - 1) / kLine);
}

/// The micro-kernel: C tile (ROWS, width <= NR) = A (ROWS, k) times a panel of B (k, NR), of which VECTORS a row are
/// wanted, + epilogue. Meanwhile it prefetches C and a share of what is read next.
template <int ROWS, int VECTORS, template <int> class Panel>
__attribute__((noinline, no_sanitize("undefined"))) void micro(const FloatBlock& g, const float* a_panel,
                                                               const float* b, const Walk& ahead, Index row,
                                                               Index column, int width) {
  const Index k = g.k, stride = g.c.stride;
  float* c = g.c.data + row * stride + column;
  V<float> acc[ROWS * VECTORS];
  unrolled<ROWS * VECTORS>([&](auto t) LOOPOS_INLINE { acc[t] = V<float>(vfloat{}); });
  Panel<ROWS> a(a_panel, g.row_stride, g.column_stride);
  const Strides b_steps(g.b_row);
  const auto turn = [&](auto steps) LOOPOS_INLINE {
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
  // One line at a time: all of C at once would hold up B, which comes through the same few buffers.
  Walk walk = ahead;
  if (const Index lines = lines_of_c(k, ROWS, VECTORS)) walk = Walk({c, ROWS, lines / ROWS, stride});
  Index p = 0;
  for (; p + kUnroll <= k; p += kUnroll) {
    __builtin_prefetch(walk.at, 0, 2);
    walk.next(ahead);
    turn(std::integral_constant<int, kUnroll>{});
  }
  for (; p < k; ++p) turn(std::integral_constant<int, 1>{});
  const auto finish = [&](auto lanes) LOOPOS_INLINE {  // lanes of vector j of a row
    const auto add = [&](const float* from, Index from_stride) LOOPOS_INLINE {
      unrolled<ROWS * VECTORS>([&](auto t) LOOPOS_INLINE {
        constexpr int i = t / VECTORS, j = t % VECTORS;
        acc[t] = load<float>(from + i * from_stride + j * kLanes, lanes(j)) + acc[t];
      });
    };
    const Epilogue<float>& e = g.epilogue;
    if (e.accumulate) add(c, stride);
    if (e.bias) add(e.bias + column, 0);
    if (e.residual) add(e.residual + row * e.residual_stride + column, e.residual_stride);
    unrolled<ROWS * VECTORS>([&](auto t) LOOPOS_INLINE {
      constexpr int i = t / VECTORS, j = t % VECTORS;
      store<float>(acc[t], c + i * stride + j * kLanes, lanes(j));
    });
  };
  if (width == VECTORS * kLanes)
    finish([](int) LOOPOS_INLINE { return std::integral_constant<int, kLanes>{}; });
  else
    finish([&](int j) LOOPOS_INLINE { return j + 1 < VECTORS ? kLanes : width - j * kLanes; });
}

/// micro for as many rows, and as many vectors a row, as the tile has.
template <template <int> class Panel, int ROWS = MR, int VECTORS = NV>
inline void call_micro(int rows, int vectors, const FloatBlock& g, const float* a, const float* b, const Walk& ahead,
                       Index row, Index column, int width) {
  if constexpr (VECTORS > 1) {
    if (vectors < VECTORS)
      return call_micro<Panel, ROWS, VECTORS - 1>(rows, vectors, g, a, b, ahead, row, column, width);
  }
  if constexpr (ROWS > 1) {
    if (rows < ROWS) return call_micro<Panel, ROWS - 1, VECTORS>(rows, vectors, g, a, b, ahead, row, column, width);
  }
  micro<ROWS, VECTORS, Panel>(g, a, b, ahead, row, column, width);
}

template <template <int> class Panel>
inline void multiply_panels(const FloatBlock& g) {
  const Walk nowhere({g.a, KC, 1, 0});  // one line that is near, again and again
  Walk ahead = g.prefetch.at ? Walk(g.prefetch) : nowhere;
  bool more = g.prefetch.at;
  for (Index j = 0, panel = 0; j < g.n; j += NR, ++panel) {
    const int width = static_cast<int>(g.n - j < NR ? g.n - j : NR), vectors = (width + kLanes - 1) / kLanes;
    const float* b = g.b + panel * g.b_panel;
    if (!g.prefetch.at && g.b_row == NR && j + NR < g.n) {  // packed already: the next panel
      ahead = Walk({b + g.b_panel, 1, (g.k * NR + kLine - 1) / kLine, 0});
      more = true;
    }
    for (Index i = 0, row_panel = 0; i < g.m; i += MR, ++row_panel) {
      const int rows = static_cast<int>(g.m - i < MR ? g.m - i : MR);
      call_micro<Panel>(rows, vectors, g, g.a + row_panel * g.a_panel, b, ahead, i, j, width);
      if (!more) continue;
      ahead.skip(g.k / kUnroll - lines_of_c(g.k, rows, vectors));
      more = ahead.runs > 0;
      if (!more) ahead = nowhere;
    }
  }
}

inline void multiply_float(const FloatBlock& g) {
  if (g.row_stride == 1)
    multiply_panels<SideBySide>(g);
  else
    multiply_panels<EachInOnePiece>(g);  // column_stride 1
}

/// One exchange of a transposition by halves: of a and b, lanes `step` apart change strides. kHigh: the second result.
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

/// Panels of WIDTH numbers per step of k, as pack; element (k, j) is at src[j * ld + k].
template <int WIDTH>
__attribute__((no_sanitize("undefined"))) inline void pack_turned(const float* src, Index ld, Index k, Index n,
                                                                  float* dst) {
  for (Index panel = 0; panel < n; panel += WIDTH)
    for (int i = 0; i < WIDTH && panel + i < n; i += kLanes) {
      const int lanes = WIDTH - i < kLanes ? WIDTH - i : kLanes;
      const Index rows = n - panel - i < lanes ? n - panel - i : lanes;
      const float* from = src + (panel + i) * ld;
      float* to = dst + panel * k + i;
      for (Index p = 0; p < k; p += kLanes) {
        const int steps = static_cast<int>(k - p < kLanes ? k - p : kLanes);
        vfloat square[kLanes];
        if (rows == kLanes && steps == kLanes) {
          unrolled<kLanes>([&](auto r) LOOPOS_INLINE { square[r] = V<float>::load(from + r * ld + p).v; });
          transpose_square<1>(square);
          unrolled<kLanes>([&](auto u) LOOPOS_INLINE { V<float>(square[u]).store(to + (p + u) * WIDTH); });
        } else {
          unrolled<kLanes>([&](auto r) LOOPOS_INLINE {
            square[r] = r < rows ? V<float>::load(from + r * ld + p, steps).v : vfloat{};
          });
          transpose_square<1>(square);
          unrolled<kLanes>([&](auto u) LOOPOS_INLINE {
            if (u < steps) V<float>(square[u]).store(to + (p + u) * WIDTH, lanes);
          });
        }
      }
    }
}

/// Panels of WIDTH numbers per step of k; element (k, j) is at src[k * ld + j], or at src[j * ld + k] when transposed.
/// The last vector that holds numbers is filled up with zeros.
template <int WIDTH>
inline void pack(const float* src, Index ld, bool transposed, Index k, Index n, float* dst) {
  if (transposed) return pack_turned<WIDTH>(src, ld, k, n, dst);
  // So many rows at a time, that each of their cache lines is read once; of so few panels, that the places written to,
  // which may all fall into one set of the cache, are kept.
  constexpr Index kRows = 8, kPanels = 8;
  for (Index j0 = 0; j0 < n; j0 += kPanels * WIDTH)
    for (Index p0 = 0; p0 < k; p0 += kRows)
      for (Index j = j0; j < n && j < j0 + kPanels * WIDTH; j += WIDTH)
        for (Index p = p0; p < k && p < p0 + kRows; ++p) {
          const float* from = src + p * ld + j;
          float* to = dst + j * k + p * WIDTH;
          if (n - j >= WIDTH) {
            std::memcpy(to, from, sizeof(float) * WIDTH);
            continue;
          }
          const int width = static_cast<int>(n - j);
          for (int i = 0; i < width; i += kLanes)
            V<float>::load(from + i, width - i < kLanes ? width - i : kLanes)
                .store(to + i, WIDTH - i < kLanes ? WIDTH - i : kLanes);
        }
}

inline void pack_b_float(const Matrix<float>& b, float* packed) {
  pack<NR>(b.data, b.stride, b.transposed, b.rows, b.columns, packed);
}

inline void pack_a_float(const Matrix<float>& a, float* packed) {
  pack<MR>(a.data, a.stride, !a.transposed, a.columns, a.rows, packed);
}

/// The rows of w are turned in registers, so that each lane is the same chain over k as in `micro`.
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

#undef LOOPOS_INLINE
}  // namespace loopos::kernels::LOOPOS_ISA_NAME
