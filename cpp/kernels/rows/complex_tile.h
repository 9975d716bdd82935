// A square of complex numbers, transposed in registers: what is read across comes in whole vectors, too.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/isa/complex.h"
#include "kernels/isa/vec.h"

namespace loopos::kernels::LOOPOS_ISA_NAME {

constexpr Index kTile = 8;  // complex numbers of a side

typedef std::int64_t vunit __attribute__((vector_size(kVectorBytes)));
constexpr int kUnitLanes = kVectorBytes / 8;
template <class T>
constexpr int kUnit = sizeof(T) / 4;  // lanes of a complex number
template <class T>
constexpr int kSquare = kUnitLanes / kUnit<T>;  // complex numbers of a vector

/// One step of a transposition by halves: lanes kStep apart of a and b change places. kHigh: the second result.
template <int kStep, bool kHigh>
inline vunit exchange_units(vunit a, vunit b) {
  vunit from;
  for (int lane = 0; lane < kUnitLanes; ++lane)
    from[lane] = (lane & kStep ? kUnitLanes + lane - (kHigh ? 0 : kStep) : lane + (kHigh ? kStep : 0));
  return __builtin_shuffle(a, b, from);
}
template <class T, int kStep = kUnit<T>>
inline void transpose_units(vunit* rows) {
  if constexpr (kStep < kUnitLanes) {
    constexpr int kApart = kStep / kUnit<T>;
#pragma GCC unroll 16
    for (int i = 0; i < kSquare<T>; ++i)
      if (!(i & kApart)) {
        const vunit a = rows[i], b = rows[i + kApart];
        rows[i] = exchange_units<kStep, false>(a, b);
        rows[i + kApart] = exchange_units<kStep, true>(a, b);
      }
    transpose_units<T, 2 * kStep>(rows);
  }
}

/// The transpose of a tile: out[i][j] = a[j][i] for i < rows, j < columns <= kTile; its rows are 2 kTile numbers apart.
template <class T>
inline void transpose_tile(const T* a, Index stride, Index rows, Index columns, T* out) {
  if (rows < kTile || columns < kTile) {
    for (Index i = 0; i < rows; ++i)
      for (Index j = 0; j < columns; ++j) std::memcpy(out + 2 * (i * kTile + j), a + j * stride + 2 * i, 2 * sizeof(T));
    return;
  }
  for (Index i = 0; i < kTile; i += kSquare<T>)
    for (Index j = 0; j < kTile; j += kSquare<T>) {
      vunit square[kSquare<T>];
#pragma GCC unroll 8
      for (int r = 0; r < kSquare<T>; ++r) std::memcpy(&square[r], a + (j + r) * stride + 2 * i, sizeof(vunit));
      transpose_units<T>(square);
#pragma GCC unroll 8
      for (int r = 0; r < kSquare<T>; ++r) std::memcpy(out + 2 * ((i + r) * kTile + j), &square[r], sizeof(vunit));
    }
}

}  // namespace loopos::kernels::LOOPOS_ISA_NAME
