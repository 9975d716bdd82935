// Between gemm.cpp, which chooses how a product is done, and driver.cpp, which cuts large float products up.
#pragma once

#include <algorithm>

#include "kernels/gemm/gemm.h"
#include "kernels/isa/table.h"

namespace loopos::kernels {

inline Index ceil_div(Index a, Index b) {
  return (a + b - 1) / b;
}
inline Index round_up(Index a, Index b) {
  return ceil_div(a, b) * b;
}

/// Depth of the blocks that k is cut into: a function of k alone. k is that of the whole product, also where the driver
/// works in slices.
inline Index block_depth(Index k) {
  const Index blocks = std::max<Index>(1, ceil_div(k, gemm_shape().depth));
  return round_up(ceil_div(k, blocks), 4);
}

template <class A, class B>
void require_inner(const Matrix<A>& a, const Matrix<B>& b) {
  require(a.columns == b.rows, "gemm: expected A (m, k) and B (k, n), got A (", a.rows, ", ", a.columns, ") and B (",
          b.rows, ", ", b.columns, ")");
}

/// The product where k = 0: the epilogue alone.
template <class T>
void epilogue_only(Index m, Index n, const Output<T>& c, const Epilogue<T>& e) {
  for (Index i = 0; i < m; ++i)
    for (Index j = 0; j < n; ++j) {
      T& out = c.data[i * c.stride + j];
      T x = e.accumulate ? out : T(0);
      if (e.bias) x += e.bias[j];
      if (e.residual) x += e.residual[i * e.residual_stride + j];
      out = x;
    }
}

/// The part of C that begins at (row, column).
template <class T>
Output<T> part(const Output<T>& c, Index row, Index column) {
  return {c.data + row * c.stride + column, c.stride};
}
template <class T>
Epilogue<T> part(const Epilogue<T>& e, Index row, Index column) {
  Epilogue<T> here = e;
  if (here.bias) here.bias += column;
  if (here.residual) here.residual += row * e.residual_stride + column;
  return here;
}

/// The product on several threads: A and B are packed block by block, and micro-kernels multiply the blocks.
template <class A, class B>
void parallel_product(const Matrix<A>& a, const Matrix<B>& b, const Output<float>& c, const Epilogue<float>& epilogue);

/// Small products, such as those inside a tile of attention, on the calling thread alone.
void serial_product(const Matrix<float>& a, const Matrix<float>& b, const Output<float>& c, bool accumulate);

}  // namespace loopos::kernels
