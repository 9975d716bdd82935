// Batched matrix product.
//   c = a b,  a (batch, m, k), b (batch, k, n) or one b (k, n) for all (b_shared), c (batch, m, n)
//   da = dc b^T,  db = a^T dc (summed over the batch when b is shared)
// Backward needs the two inputs. An element is one chain of multiply-adds over the inner axis in ascending order,
// so its bits depend on that axis alone; precision, of float products: kernels/gemm/gemm.h. An inner axis of length 0
// gives zeros.
#pragma once

#include "core/check.h"
#include "core/precision.h"

namespace loopos {

template <class T>
void matmul_forward(const T* a, const T* b, Index batch, Index m, Index k, Index n, bool b_shared, T* c,
                    Precision precision = Precision::float32);

/// Overwrites da and db (neither operand is a parameter here); null skips one.
template <class T>
void matmul_backward(const T* dc, const T* a, const T* b, Index batch, Index m, Index k, Index n, bool b_shared, T* da,
                     T* db, Precision precision = Precision::float32);

}  // namespace loopos
