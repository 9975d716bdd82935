// A float product by products of bfloat16 pieces. A number is the sum of its pieces: x = p0 (+ p1 (+ p2)), p0 = x rounded
// to bfloat16, p1 = what is left over, rounded, and p2 what is left over then. One term, p0 q0, is bf16; three,
// p1 q0 + p0 q0 + p0 q1, are bf16x3; six, all p_i q_j with i + j < 3, are float32: three pieces hold all digits of a
// number (Henry, Tang and Heinecke, "Leveraging the bfloat16 artificial intelligence datatype for higher-precision
// computations", 2019). The five small terms of the six are summed first, over all steps of a block, and p0 q0 last: so the
// sum is rounded at its full size once for 32 numbers of k, and is nearer to the exact one than a chain of multiply-adds.
//
// Both operands are packed into panels of 32 units (rows of A, columns of B). A panel holds step after step of 32 numbers
// of k; a step, piece after piece; a piece, two tiles of 16 units. A tile of A has a row for each unit: its 32 numbers. A
// tile of B has a row for each pair of steps of k: the pairs of its 16 units. What is missing at an edge is zero.
//
// Plain structs without functions, as in gemm/matrix.h.
#pragma once

#include "kernels/gemm/matrix.h"

namespace loopos::kernels {

using Bf16 = std::uint16_t;
constexpr Index kUnits = 32, kTileUnits = 16, kTileDepth = 32;
constexpr Index kTile = kTileUnits * kTileDepth;  // numbers of a tile

/// Units of an operand, as they lie in memory. along: number p of unit u is at x[u stride + p], else at x[p stride + u].
struct Units {
  const float* x;
  Index stride, units, depth;
  bool along;
};

/// One block of a product: panels of A and of B over the same steps. The sums of a block begin at zero. B has as many
/// pieces as A, or one where its numbers are bfloat16: the terms with its others would add zeros.
struct PieceBlock {
  Index m, n, steps;
  int a_pieces, b_pieces;
  const Bf16 *a, *b;
  Index a_panel, b_panel;  // numbers from a panel to the next
  Output<float> c;
  Epilogue<float> epilogue;
  bool down;  // walks down the columns of C rather than along its rows
  /// Sums of (rows, columns) from (row, column), by multiply-adds, into rows kUnits apart: asked where those of the pieces
  /// are not finite.
  void (*again)(const void* product, Index row, Index column, Index rows, Index columns, float* sums);
  const void* product;
};

/// What computes with pieces. All fillings give the same bits, but for the payload of a NaN.
struct PieceKernels {
  void (*pack)(const Units&, bool is_a, int pieces, Bf16* panels);
  void (*multiply)(const PieceBlock&);
};

}  // namespace loopos::kernels
