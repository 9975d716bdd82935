// The diagonal of square matrices: its sum, and loading it.
//   trace: y = the real part of sum r_ii, in double;  dr = dy I
//   load_diagonal: y = r + eps I;  dr = dy, deps = the real part of sum dy_ii, over the batch
// NaN and inf go through as computed.
#pragma once

#include "linalg/matrix.h"

namespace loopos {

/// r (batch, n, n), y (batch).
template <class T>
void trace_forward(const Complex<T>* r, Index batch, Index n, T* y);
template <class T>
void trace_backward(const T* dy, Index batch, Index n, Complex<T>* dr);

/// The same sum of one matrix, in double.
template <class T>
double trace_of(const Complex<T>* r, Index n);

template <class T>
void load_diagonal_forward(const Complex<T>* r, Index batch, Index n, double eps, Complex<T>* y);
/// Returns deps.
template <class T>
double load_diagonal_backward(const Complex<T>* dy, Index batch, Index n, Complex<T>* dr);

}  // namespace loopos
