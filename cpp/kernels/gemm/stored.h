// Weights that are stored small: how numbers are turned into bytes and back (the layout: Panels in matrix.h).
//   bfloat16: the nearest, ties to even
//   int8:     the columns of a block share the scale s = float16(max |w| / 127), and q = round(w / s), |q| <= 127.
//             Where float16 rounds so small a scale so far down that |q| would be 128 or more, s is the next one up.
//   int4:     the same with 7 for 127
//   nf4:      s = float16(max |w|), and q is the number of the level that is nearest to w / s (kLevels in matrix.h)
// A number is q s, or the level times s rounded to float. What is read and stored again gives the same bytes, unless a
// scale is so small (below 2^-14) that float16 has not all its digits.
// Storing says how far the stored numbers are from those that were given.
#pragma once

#include <stdexcept>
#include <type_traits>

#include "kernels/gemm/gemm.h"

namespace loopos::kernels {

/// How far stored numbers are from those that came.
struct StorageError {
  double largest = 0;                     // |stored - given|
  double error_squares = 0, squares = 0;  // sums of (stored - given)^2 and given^2
  Index refused = -1;  // flat place of a number that cannot be stored: NaN, infinite or beyond the range; -1: none
};

/// Bytes of one panel, and of a whole weight (out, in).
Index panel_bytes(Storage kind, Index in);
Index stored_bytes(Storage kind, Index out, Index in);

/// Stores rows [first, first + rows) of a weight (out, in). Where a number is refused the weight is of no use: rows
/// around it are stored or not. Rows that fill up the last panel are never written: the memory begins as zeros.
StorageError store_rows(Storage kind, const float* from, Index first, Index rows, Index in, unsigned char* weight);
/// The numbers of rows [first, first + rows), any; and of one column of all rows.
void load_rows(Storage kind, const unsigned char* weight, Index first, Index rows, Index in, float* to);
void load_column(Storage kind, const unsigned char* weight, Index out, Index in, Index column, float* to);

/// The whole weight as products read it: (out, in).
template <Storage kind>
Matrix<Panels<kind>> stored_matrix(const unsigned char* weight, Index out, Index in) {
  return {weight, panel_bytes(kind, in), out, in, 0, 0, false};
}

/// body(constant kind) of a small kind.
template <class Body>
decltype(auto) of_kind(Storage kind, Body&& body) {
  switch (kind) {
    case Storage::bfloat16:
      return body(std::integral_constant<Storage, Storage::bfloat16>{});
    case Storage::int8:
      return body(std::integral_constant<Storage, Storage::int8>{});
    case Storage::nf4:
      return body(std::integral_constant<Storage, Storage::nf4>{});
    case Storage::int4:
      return body(std::integral_constant<Storage, Storage::int4>{});
    case Storage::plain:
      break;
  }
  throw std::logic_error("a parameter is not stored small");
}

/// Calls body(matrix) with the weight as products read it.
template <class Body>
void with_stored(Storage kind, const unsigned char* weight, Index out, Index in, Body&& body) {
  of_kind(kind, [&](auto k) { body(stored_matrix<k>(weight, out, in)); });
}

}  // namespace loopos::kernels
