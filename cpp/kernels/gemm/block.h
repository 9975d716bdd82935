// One block of a product, as the driver hands it to the kernels of the instruction set. Plain structs, as in matrix.h.
#pragma once

#include "kernels/gemm/matrix.h"

namespace loopos::kernels {

/// One block of a double product: C = A B [+ C].
struct DoubleBlock {
  Matrix<double> a, b;
  Output<double> c;
  bool accumulate;
};

/// How the float product is blocked for this instruction set.
struct GemmShape {
  Index rows, columns, lanes, depth;  // register tile (MR, NR), numbers in a vector, depth KC of a packed block
};

constexpr int kLine = 16;  // floats of a cache line

/// What the micro-kernel prefetches for its next reader: `runs` runs of `lines` cache lines each, `stride` floats
/// apart.
struct Prefetch {
  const float* at;
  Index runs, lines, stride;
};

/// One block with k <= KC. Row panel p of A starts at a + p a_panel; element (i, j) of a panel is at i row_stride + j
/// column_stride, one of which is 1. Column panel p of B starts at b + p b_panel and has NR numbers per step of k,
/// b_row apart: packed, or in place where n is a multiple of a vector.
struct FloatBlock {
  Index m, n, k;
  Prefetch prefetch;
  const float* a;
  Index a_panel, row_stride, column_stride;
  const float* b;
  Index b_panel, b_row;
  Output<float> c;
  Epilogue<float> epilogue;
};

/// A few rows times a weight that is stored in panels: C (rows, n) = X (rows, k) times W (n, k) transposed + epilogue.
/// W begins at a panel. k is cut into blocks of `depth`, as everywhere: so the bits are those of multiply_block.
template <Storage kind>
struct RowsBlock {
  const float* x;
  Index rows, x_stride, depth;
  Matrix<Panels<kind>> weight;
  Output<float> c;
  Epilogue<float> epilogue;
};

// Of the active instruction set:

const GemmShape& gemm_shape();
/// Packs B (k, n) into panels of NR columns: panel p holds k rows of NR numbers. Zeros fill up the last
/// vector that holds numbers. Packing turns a stored type into float: another stored type is another overload.
void pack_b(const Matrix<float>& b, float* packed);
/// Packs A (m, k) into panels of MR rows: panel p holds k columns of MR numbers.
void pack_a(const Matrix<float>& a, float* packed);
template <Storage kind>
void pack_b(const Matrix<Panels<kind>>& b, float* packed);
void multiply_block(const FloatBlock& block);
void multiply_block(const DoubleBlock& block);
/// y[j] = [y[j] +] the product of x (k) and row j of w (n, k), not transposed, with k in blocks of `depth`: the bits of
/// multiply_block for one row.
void multiply_row(const float* x, const Matrix<float>& w, Index depth, bool add, float* y);
template <Storage kind>
void multiply_rows(const RowsBlock<kind>& block);

}  // namespace loopos::kernels
