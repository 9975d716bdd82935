// Matrix products, row-major with leading dimensions. Only m and n are partitioned between threads, and k is walked in
// one fixed order.
#pragma once

#include "core/check.h"
#include "kernels/table.h"

namespace loopos::kernels {

enum class Trans { no, yes };

/// C (m, n) = A (m, k) B (k, n), or += with accumulate. With Trans::yes the operand is stored transposed: A as (k, m),
/// B as (n, k). lda, ldb, ldc are the distances of stored rows. C must not overlap A or B. k = 0 gives zeros (or leaves
/// C with accumulate).
template <class T>
void gemm(Trans ta, Trans tb, Index m, Index n, Index k, const T* a, Index lda, const T* b, Index ldb, T* c, Index ldc,
          bool accumulate);

/// The same product, on the calling thread alone: for use inside a chunk of other work.
template <class T>
void gemm_serial(Trans ta, Trans tb, Index m, Index n, Index k, const T* a, Index lda, const T* b, Index ldb, T* c,
                 Index ldc, bool accumulate);

}  // namespace loopos::kernels
