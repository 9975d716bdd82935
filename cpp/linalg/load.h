// Matrices on their way in, checked and brought near 1, and on their way out.
#pragma once

#include "core/buffer.h"
#include "linalg/matrix.h"

namespace loopos {

/// Real numbers from row to row of a matrix of n columns inside: whole cache lines.
inline Index row_stride(Index n) {
  return (2 * n + 15) / 16 * 16;
}

/// Memory of the calling thread for (rows, n); each Tag has its own.
template <class T, class Tag>
T* matrix_scratch(Index rows, Index n) {
  return scratch<T, Tag>(std::max<Index>(1, rows) * row_stride(n));
}

/// An even e with 2^e <= the largest |part| of x < 2^(e + 2), within what T can undo; 0 where all are 0. MatrixError
/// naming `what` and the element where one is not finite (columns: of a row of x).
template <class T>
int scale_of(const char* what, const Complex<T>* x, Index rows, Index columns);

/// out = the lower triangle of 2^-e r, zeros above, a real diagonal; returns e. MatrixError where r is not finite, or r and
/// its adjoint differ by more than hermitian_tolerance() 2^e.
template <class T>
int load_hermitian(const char* what, const Complex<T>* r, Index n, T* out);
template <class T>
double hermitian_tolerance();

/// out = 2^-e x (rows, columns), or of its adjoint (columns, rows); returns e. MatrixError where x is not finite.
template <class T>
int load(const char* what, const Complex<T>* x, Index rows, Index columns, T* out);
template <class T>
int load_adjoint(const char* what, const Complex<T>* x, Index rows, Index columns, T* out);

/// out = the Hermitian part of 2^-e x (n, n), whole; returns e. MatrixError where x is not finite.
template <class T>
int load_hermitian_part(const char* what, const Complex<T>* x, Index n, T* out);

/// factor 2^exponent, whose product need not be a number of T.
struct Scale {
  double factor;
  int exponent;
};

/// out (n, n) = scale times the Hermitian matrix with this lower (or upper) triangle. MatrixError where a result is beyond the range of T.
template <class T>
void store_hermitian(const T* x, Index n, bool upper, Scale scale, Complex<T>* out);
/// out (rows, columns) = scale times x, or times the adjoint of x (columns, rows).
template <class T>
void store(const T* x, Index rows, Index columns, Scale scale, Complex<T>* out);
template <class T>
void store_adjoint(const T* x, Index rows, Index columns, Scale scale, Complex<T>* out);

}  // namespace loopos
