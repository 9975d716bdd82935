// What a product takes and gives. Plain structs without functions: the sources of every instruction set include this
// file, and a function that the linker merges would run one set's code in another.
#pragma once

#include <cstdint>

#include "core/storage.h"

namespace loopos::kernels {

using Index = std::int64_t;

/// A matrix (rows, columns) that a product reads. Stored rows are `stride` numbers apart; transposed: what is stored is
/// (columns, rows). Stored is the type in memory, which may differ from the type that the product computes in
/// (Compute): packing turns the one into the other.
template <class Stored>
struct Matrix {
  const Stored* data;
  Index rows, columns, stride;
  bool transposed;
};

/// The stored type of a weight (out, in) that is frozen in a small type. It lies in panels of kPanelRows rows (the last
/// filled up with zeros). The lanes of a vector are rows of the weight: so a product of one row reads one stream of memory
/// and transposes nothing. A panel holds block after block of some columns; a block, the scales (float16) of its rows
/// and then its numbers, column after column. Of 4 bits, byte i of a column has row i (low) and row 16 + i (high).
template <Storage kind>
struct Panels {};
constexpr Index kPanelRows = 32;
struct PanelLayout {
  Index columns, scale_bytes, column_bytes;  // of a block; of one of its columns
};
template <Storage kind>
constexpr PanelLayout kLayout = {1, 0, 2 * kPanelRows};  // bfloat16: without scales a column is a block
template <>
constexpr PanelLayout kLayout<Storage::int8> = {32, 2 * kPanelRows, kPanelRows};
template <>
constexpr PanelLayout kLayout<Storage::nf4> = {64, 2 * kPanelRows, kPanelRows / 2};
template <>
constexpr PanelLayout kLayout<Storage::int4> = {32, 2 * kPanelRows, kPanelRows / 2};
template <Storage kind>
constexpr Index kBlockBytes = kLayout<kind>.scale_bytes + kLayout<kind>.columns * kLayout<kind>.column_bytes;

/// What the 4 bits stand for, times the scale: whole numbers from -8 (never stored) to 7; or the quantiles of a normal
/// distribution, brought to [-1, 1] and with a 0 among them (NF4: Dettmers et al., QLoRA, 2023, appendix E).
template <Storage kind>
constexpr float kLevels[16] = {-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7};
template <>
constexpr float kLevels<Storage::nf4>[16] = {
    -1.0f,
    -0.6961928009986877f,
    -0.5250730514526367f,
    -0.39491748809814453f,
    -0.28444138169288635f,
    -0.18477343022823334f,
    -0.09105003625154495f,
    0.0f,
    0.07958029955625534f,
    0.16093020141124725f,
    0.24611230194568634f,
    0.33791524171829224f,
    0.44070982933044434f,
    0.5626170039176941f,
    0.7229568362236023f,
    1.0f,
};

/// A part of such a weight, as a product reads it: (out, in), or transposed (in, out).
template <Storage kind>
struct Matrix<Panels<kind>> {
  const unsigned char* data;  // of the whole weight
  Index panel;                // bytes of one panel
  Index rows, columns;        // of this part
  Index out, in;              // where it begins in the weight
  bool transposed;
};

/// The type that products of numbers stored as Stored are computed in.
template <class Stored>
struct ComputeOf;
template <>
struct ComputeOf<float> {
  using type = float;
};
template <>
struct ComputeOf<double> {
  using type = double;
};
template <Storage kind>
struct ComputeOf<Panels<kind>> {
  using type = float;
};
template <class Stored>
using Compute = typename ComputeOf<Stored>::type;

/// The result C (m, n), rows `stride` apart.
template <class T>
struct Output {
  T* data;
  Index stride;
};

/// What a product adds to C while the sums are still in registers.
template <class T>
struct Epilogue {
  bool accumulate = false;      // C itself
  const T* bias = nullptr;      // (n), to every row
  const T* residual = nullptr;  // (m, n), rows residual_stride apart; not C
  Index residual_stride = 0;
};

}  // namespace loopos::kernels
