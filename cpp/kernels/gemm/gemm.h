// Matrix products, row-major. Only m and n are partitioned between threads, and k is walked in one fixed order, in
// blocks fixed by k alone: so the bits of an element depend on nothing but its row, its column and k. On a processor with
// matrix tiles a product is made of bfloat16 pieces (kernels/pieces) where k and n are worth it, and where A has
// fewest_piece_rows or B is packed. A caller that packs B in one case and not in the other, for the same bits, makes sure
// that there are so many rows.
#pragma once

#include "core/check.h"
#include "core/precision.h"
#include "kernels/gemm/matrix.h"

namespace loopos::kernels {

/// Of fewer rows reading B, and for six products packing it, takes the time, not the arithmetic.
constexpr Index fewest_piece_rows(Precision precision) {
  return precision == Precision::float32 ? 256 : 16;
}
/// Whether rows of a product with B (k, n) have the same bits whether B is packed or not, where A has so many of them.
bool same_when_packed(Precision precision, Index rows, Index k, Index n);

/// The matrix (rows, columns) stored at data, rows `stride` apart; without a stride they follow one another.
template <class Stored>
Matrix<Stored> matrix(const Stored* data, Index rows, Index columns, Index stride) {
  return {data, rows, columns, stride, false};
}
template <class Stored>
Matrix<Stored> matrix(const Stored* data, Index rows, Index columns) {
  return {data, rows, columns, columns, false};
}

/// The transpose, of the same memory.
template <class Stored>
Matrix<Stored> transpose(const Matrix<Stored>& x) {
  return {x.data, x.columns, x.rows, x.stride, !x.transposed};
}

/// The part (rows, columns) of x that begins at (row, column).
template <class Stored>
Matrix<Stored> block(const Matrix<Stored>& x, Index row, Index column, Index rows, Index columns) {
  const Index offset = x.transposed ? column * x.stride + row : row * x.stride + column;
  return {x.data + offset, rows, columns, x.stride, x.transposed};
}

/// The same of a weight stored in panels. A part begins at a row of the weight that is a multiple of a vector.
template <Storage kind>
Matrix<Panels<kind>> transpose(const Matrix<Panels<kind>>& x) {
  return {x.data, x.panel, x.columns, x.rows, x.out, x.in, !x.transposed};
}
template <Storage kind>
Matrix<Panels<kind>> block(const Matrix<Panels<kind>>& x, Index row, Index column, Index rows, Index columns) {
  const Index out = x.out + (x.transposed ? column : row), in = x.in + (x.transposed ? row : column);
  return {x.data, x.panel, rows, columns, out, in, x.transposed};
}

/// C (m, n) = A (m, k) B (k, n) + epilogue. C must not overlap A or B. k = 0 gives the epilogue alone. precision: of a
/// float product; what is not worth pieces is computed by multiply-adds, which is no worse and no slower.
template <class A, class B>
void gemm(const Matrix<A>& a, const Matrix<B>& b, const Output<Compute<A>>& c,
          const Epilogue<Compute<A>>& epilogue = {}, Precision precision = Precision::float32);

/// The same product, on the calling thread alone: for use inside a chunk of other work.
template <class A, class B>
void gemm_serial(const Matrix<A>& a, const Matrix<B>& b, const Output<Compute<A>>& c,
                 const Epilogue<Compute<A>>& epilogue = {}, Precision precision = Precision::float32);

/// B (k, n) packed once for several products. Packing writes size() numbers to memory, which must live as long as this.
/// Where size() is 0 nothing is to be packed and B itself is read: for double, and for a small B that is not transposed
/// and whose rows are whole vectors.
template <class Stored>
struct PackedMatrix {
  Matrix<Stored> source;
  Compute<Stored>* memory;
  Precision precision = Precision::float32;  // of the products

  Index size() const;
  /// Columns [begin, end) of B, on the calling thread alone; begin at a multiple of 64, a whole panel for every ISA.
  void pack(Index begin, Index end) const;
};

/// C (m, n) = A (m, k) times the first n columns of B, + epilogue.
template <class A, class B>
void gemm_packed(const Matrix<A>& a, const PackedMatrix<B>& b, Index n, const Output<Compute<A>>& c,
                 const Epilogue<Compute<A>>& epilogue = {});

}  // namespace loopos::kernels
