#include "ops/matmul.h"

#include "core/thread_pool.h"
#include "kernels/gemm/gemm.h"

namespace loopos {
namespace {

using kernels::Matrix;
using kernels::matrix;
using kernels::transpose;

/// c[i] = a[i] b[i] of `batch` matrices each that lie one after another; a and b are the first. Small products are
/// dealt out whole, large ones are cut up inside.
template <class T>
void products(Index batch, const Matrix<T>& a, const Matrix<T>& b, T* c, Precision precision) {
  constexpr double kLarge = 1 << 24;  // multiply-adds: about a millisecond
  const Index m = a.rows, k = a.columns, n = b.columns;
  const bool whole = batch > 1 && static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k) < kLarge;
  const auto one = [&](Index i) {
    Matrix<T> ai = a, bi = b;
    ai.data += i * m * k;
    bi.data += i * k * n;
    if (whole)
      gemm_serial(ai, bi, {c + i * m * n, n}, {}, precision);
    else
      gemm(ai, bi, {c + i * m * n, n}, {}, precision);
  };
  if (!whole)
    for (Index i = 0; i < batch; ++i) one(i);
  else
    parallel_blocks(batch, 65536 / std::max<Index>(1, m * n * k), [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) one(i);
    });
}

}  // namespace

template <class T>
void matmul_forward(const T* a, const T* b, Index batch, Index m, Index k, Index n, bool b_shared, T* c,
                    Precision precision) {
  if (b_shared)
    gemm(matrix(a, batch * m, k), matrix(b, k, n), {c, n}, {}, precision);
  else
    products(batch, matrix(a, m, k), matrix(b, k, n), c, precision);
}

template <class T>
void matmul_backward(const T* dc, const T* a, const T* b, Index batch, Index m, Index k, Index n, bool b_shared, T* da,
                     T* db, Precision precision) {
  if (b_shared) {
    if (da) gemm(matrix(dc, batch * m, n), transpose(matrix(b, k, n)), {da, k}, {}, precision);
    if (db) gemm(transpose(matrix(a, batch * m, k)), matrix(dc, batch * m, n), {db, n}, {}, precision);
    return;
  }
  if (da) products(batch, matrix(dc, m, n), transpose(matrix(b, k, n)), da, precision);
  if (db) products(batch, transpose(matrix(a, m, k)), matrix(dc, m, n), db, precision);
}

#define LOOPOS_INSTANTIATE(T)                                                                        \
  template void matmul_forward(const T*, const T*, Index, Index, Index, Index, bool, T*, Precision); \
  template void matmul_backward(const T*, const T*, const T*, Index, Index, Index, Index, bool, T*, T*, Precision);
LOOPOS_INSTANTIATE(float)
LOOPOS_INSTANTIATE(double)

}  // namespace loopos
