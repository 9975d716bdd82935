// Products of complex matrices by the real product of cpp/kernels/gemm, on the calling thread. A and C are read and
// written as they are stored; B is expanded to twice its rows, which makes the real product the complex one:
//   (a + ib)(u + iv) = [a b] [[u v] [-v u]]
#pragma once

#include "core/buffer.h"
#include "kernels/isa/complex.h"
#include "linalg/load.h"

namespace loopos {

using kernels::Stored;

/// B (k, n), expanded; rows of `expanded` are row_stride(n) numbers apart.
template <class T>
void expand(const T* b, Index stride, Stored how, Index k, Index n, T sign, T* expanded);
/// Numbers that it takes.
inline Index expanded_size(Index k, Index n) {
  return std::max<Index>(1, 2 * k) * row_stride(n);
}

/// C (m, n) = A (m, k) B [+ C]. C must not overlap A.
template <class T>
void multiply(const T* a, Index a_stride, Index m, Index k, const T* expanded, Index n, bool accumulate, T* c,
              Index c_stride);

/// The lower triangle of C (n, n) = A (n, k) B [+ C], where that is known to be Hermitian; what is above is undefined.
template <class T>
void multiply_lower(const T* a, Index a_stride, Index n, Index k, const T* expanded, bool accumulate, T* c,
                    Index c_stride);

}  // namespace loopos
