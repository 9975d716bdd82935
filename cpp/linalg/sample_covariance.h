// Sample covariance of snapshots: R = (1/L) sum over l of a_l a_l^H, so R[i, j] = mean of a_i conj(a_j). center: of a_l less
// their mean (still over L).
//   da_l = (1/L) (dR + dR^H) a_l, less its mean over l where centred
// Backward needs the snapshots alone. The mean is taken in double.
#pragma once

#include "linalg/matrix.h"

namespace loopos {

/// snapshots (batch, length, n), length at least 1; r (batch, n, n) Hermitian. MatrixError where a snapshot is not finite
/// or a result is beyond the range of T.
template <class T>
void sample_covariance_forward(const Complex<T>* snapshots, Index batch, Index length, Index n, bool center,
                               Complex<T>* r);

template <class T>
void sample_covariance_backward(const Complex<T>* dr, const Complex<T>* snapshots, Index batch, Index length, Index n,
                                bool center, Complex<T>* dsnapshots);

}  // namespace loopos
