#include "ops/matmul.h"

#include "core/thread_pool.h"
#include "kernels/gemm.h"

namespace loopos {
namespace {

using kernels::Trans;

/// `batch` products of operands that lie one after another. Small ones are dealt out whole, large ones are cut up
/// inside.
template <class T>
void products(Trans ta, Trans tb, Index batch, Index m, Index n, Index k, const T* a, Index lda, const T* b, Index ldb,
              T* c) {
  constexpr double kLarge = 1 << 24;  // multiply-adds: about a millisecond
  const bool whole = batch > 1 && static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k) < kLarge;
  const auto one = [&](Index i) {
    const T *ai = a + i * m * k, *bi = b + i * k * n;
    T* ci = c + i * m * n;
    if (whole)
      kernels::gemm_serial(ta, tb, m, n, k, ai, lda, bi, ldb, ci, n, false);
    else
      kernels::gemm(ta, tb, m, n, k, ai, lda, bi, ldb, ci, n, false);
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
void matmul_forward(const T* a, const T* b, Index batch, Index m, Index k, Index n, bool b_shared, T* c) {
  if (b_shared)
    kernels::gemm(Trans::no, Trans::no, batch * m, n, k, a, k, b, n, c, n, false);
  else
    products(Trans::no, Trans::no, batch, m, n, k, a, k, b, n, c);
}

template <class T>
void matmul_backward(const T* dc, const T* a, const T* b, Index batch, Index m, Index k, Index n, bool b_shared, T* da,
                     T* db) {
  if (b_shared) {
    if (da) kernels::gemm(Trans::no, Trans::yes, batch * m, k, n, dc, n, b, n, da, k, false);
    if (db) kernels::gemm(Trans::yes, Trans::no, k, n, batch * m, a, k, dc, n, db, n, false);
    return;
  }
  if (da) products(Trans::no, Trans::yes, batch, m, k, n, dc, n, b, n, da);
  if (db) products(Trans::yes, Trans::no, batch, k, n, m, a, k, dc, n, db);
}

#define LOOPOS_INSTANTIATE(T)                                                             \
  template void matmul_forward(const T*, const T*, Index, Index, Index, Index, bool, T*); \
  template void matmul_backward(const T*, const T*, const T*, Index, Index, Index, Index, bool, T*, T*);
LOOPOS_INSTANTIATE(float)
LOOPOS_INSTANTIATE(double)

}  // namespace loopos
