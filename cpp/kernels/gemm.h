// Matrix products, row-major with leading dimensions. Only m and n are partitioned between threads, and k is walked in
// one fixed order, in blocks fixed by k alone: so the bits of an element depend on nothing but its row, its column and
// k.
#pragma once

#include "core/check.h"
#include "kernels/table.h"

namespace loopos::kernels {

enum class Trans { no, yes };

/// What a product adds to C while it is at hand anyway.
template <class T>
struct Extras {
  bool accumulate = false;      // C itself
  const T* bias = nullptr;      // (n), to every row
  const T* residual = nullptr;  // (m, n), rows ld_residual apart; not C
  Index ld_residual = 0;
};

/// C (m, n) = A (m, k) B (k, n) + extras. With Trans::yes the operand is stored transposed: A as (k, m), B as (n, k).
/// lda, ldb, ldc are the distances of stored rows. C must not overlap A or B. k = 0 gives the extras alone.
template <class T>
void gemm(Trans ta, Trans tb, Index m, Index n, Index k, const T* a, Index lda, const T* b, Index ldb, T* c, Index ldc,
          const Extras<T>& extras);
template <class T>
void gemm(Trans ta, Trans tb, Index m, Index n, Index k, const T* a, Index lda, const T* b, Index ldb, T* c, Index ldc,
          bool accumulate) {
  Extras<T> extras;
  extras.accumulate = accumulate;
  gemm(ta, tb, m, n, k, a, lda, b, ldb, c, ldc, extras);
}

/// The same product, on the calling thread alone: for use inside a chunk of other work.
template <class T>
void gemm_serial(Trans ta, Trans tb, Index m, Index n, Index k, const T* a, Index lda, const T* b, Index ldb, T* c,
                 Index ldc, bool accumulate);

/// B packed once for several products. Packing writes size() numbers to memory, which must live as long as this. Where
/// size() is 0 nothing is to be packed and B itself is read: for double, and for a small B stored (k, n) whose rows are
/// whole vectors.
template <class T>
struct Panels {
  Trans tb;
  Index n, k;
  const T* b;
  Index ldb;
  T* memory;

  Index size() const;
  /// Columns [begin, end) of B, on the calling thread alone; begin at a multiple of 64, a whole panel for every ISA.
  void pack(Index begin, Index end) const;
};

/// gemm with the first n columns of B.
template <class T>
void gemm_panels(Trans ta, Index m, Index n, const T* a, Index lda, const Panels<T>& b, T* c, Index ldc,
                 const Extras<T>& extras);

}  // namespace loopos::kernels
