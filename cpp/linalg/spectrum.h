// The eigenvalues and eigenvectors inside: R = V diag(w) V^H, and the way into that basis and back. What is a function of
// the eigenvalues has its derivative there, in the divided differences of that function (Daleckii and Krein, 1965):
//   f(R) = V diag(f(w)) V^H;  dR = V (F o (V^H dY V)) V^H,  F_ij = (f(w_i) - f(w_j)) / (w_i - w_j), f'(w_i) where they meet
// which is finite where eigenvalues are equal, if F is computed without the difference of two close numbers.
#pragma once

#include <functional>

#include "linalg/load.h"

namespace loopos {

/// Of 2^-exponent R, in memory of the calling thread, until its next spectrum(). w ascends; V (n, n) has rows row_stride(n)
/// numbers apart.
template <class T>
struct Spectrum {
  const T* w;
  const T* v;
  Index n;
  int exponent;

  double eigenvalue(Index i) const;  // of R
  /// Eigenvalues so close are equal but for rounding: 4 n epsilon times the largest |w|.
  T resolution() const;
};

/// What eigh_forward gave for a batch of matrices; nothing where it is to be computed.
template <class T>
struct Eigensystem {
  const T* w = nullptr;
  const Complex<T>* v = nullptr;
};

/// Of matrix b of r (batch, n, n), or what is known of it (r is not read then). MatrixError where a number is not finite, r
/// is not Hermitian, or the iteration does not end.
template <class T>
Spectrum<T> spectrum(const Complex<T>* r, Index b, Index n, const Eigensystem<T>& known = {});

/// The lower triangle of y = V B V^H. Of the Hermitian b the lower triangle is read, and the upper one written. Rows of all
/// three are row_stride(n) numbers apart.
template <class T>
void from_eigenbasis(const T* v, Index n, T* b, T* y);

/// The lower triangle of y = V diag(values) V^H.
template <class T>
void with_eigenvalues(const T* v, Index n, const double* values, T* y);

/// dr of a function of the eigenvalues, given its divided differences F (i, j), j <= i, in double and of R itself.
template <class T>
void spectral_backward(const Spectrum<T>& s, const Complex<T>* dy,
                       const std::function<double(Index, Index)>& difference, Complex<T>* dr);

}  // namespace loopos
