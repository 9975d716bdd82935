// Eigenvalues and eigenvectors of Hermitian matrices: R = V diag(w) V^H, w ascending, columns of V orthonormal.
//   M = V^H dV;  B_ii = dw_i, B_ij = (M_ij - conj(M_ji)) / (2 (w_j - w_i));  dR = V B V^H
// An eigenvector is fixed but for its phase, those of equal eigenvalues but for a rotation among them: a loss whose value
// depends on that has no gradient. It is refused: the imaginary part of M_ii is not 0; or of equal eigenvalues (but for
// rounding, Spectrum::resolution()) M_ij - conj(M_ji) is not 0, dw differs, or both dw and M_ij are not 0, of which the
// derivative cannot be told. What is left for them is B_ij = 0.
#pragma once

#include "linalg/matrix.h"

namespace loopos {

/// r, v (batch, n, n), w (batch, n).
template <class T>
void eigh_forward(const Complex<T>* r, Index batch, Index n, T* w, Complex<T>* v);

/// dv null: 0. MatrixError where the gradient is not defined; dr Hermitian. Of eigenvalues alone dR = V diag(dw) V^H.
template <class T>
void eigh_backward(const T* dw, const Complex<T>* dv, const T* w, const Complex<T>* v, Index batch, Index n,
                   Complex<T>* dr);

}  // namespace loopos
