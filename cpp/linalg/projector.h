// Projector onto the span of the eigenvectors of the k largest eigenvalues of Hermitian matrices (the signal subspace; the
// noise subspace has I minus it): P = V_k V_k^H. Backward: linalg/spectrum.h with F = 1 / (w_i - w_j) across the gap, 0 on
// either side, so that equal eigenvalues on one side do no harm. What is not 0 has the columns of the smaller side U, k or
// n - k of them, and the rows of the larger one W:
//   Z = W (F o (W^H D U)), D the Hermitian part of dP;  dR = Z U^H + U Z^H
// Where the gap between eigenvalue k and the next is 0
// (but for rounding) the span is not defined: refused.
#pragma once

#include "linalg/spectrum.h"

namespace loopos {

/// r, p (batch, n, n); 0 <= k <= n. known: what eigh_forward gave for r, where that is at hand.
template <class T>
void projector_forward(const Complex<T>* r, Index batch, Index n, Index k, Complex<T>* p,
                       const Eigensystem<T>& known = {});

template <class T>
void projector_backward(const Complex<T>* dp, const Complex<T>* r, Index batch, Index n, Index k, Complex<T>* dr,
                        const Eigensystem<T>& known = {});

}  // namespace loopos
