// What a product takes and gives. Plain structs without functions: the sources of every instruction set include this
// file, and a function that the linker merges would run one set's code in another.
#pragma once

#include <cstdint>

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
