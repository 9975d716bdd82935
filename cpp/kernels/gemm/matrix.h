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
/// and transposes nothing. A panel holds
///   bfloat16: column after column, the kPanelRows numbers of that column
///   int8:     block after block of kScaleColumns columns: kPanelRows scales (float16), then its columns as above
constexpr Index kPanelRows = 32, kScaleColumns = 32;
constexpr Index kScaleBytes = 2 * kPanelRows;                            // of a block's scales
constexpr Index kBlockBytes = kScaleBytes + kScaleColumns * kPanelRows;  // of a whole block
template <Storage kind>
struct Panels {};

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
