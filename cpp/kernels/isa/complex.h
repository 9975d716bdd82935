// Complex matrices: the kernels of one instruction set, by pointer (see kernels/rows/complex.h). A complex number is two
// real ones, one behind the other, as std::complex and numpy store it. A stride counts real numbers.
#pragma once

#include "core/check.h"

namespace loopos::kernels {

constexpr Index kFactorBlock = 16;                                 // order of a block that is factored at once
constexpr Index kFactorNumbers = 2 * kFactorBlock * kFactorBlock;  // real numbers of its inverse

constexpr Index kSweeps = 24;  // of QL, whose rotations are kept

/// Real numbers from row to row where rows are whole vectors of any instruction set.
constexpr Index vector_stride(Index n) {
  return (n + 15) / 16 * 16;
}
/// Numbers of memory that tridiagonalize and tridiagonal_ql take.
constexpr Index tridiagonalize_memory(Index n) {
  return (2 * n + 11) * vector_stride(n);
}
constexpr Index rotations_memory(Index n) {
  return 2 * kSweeps * n;
}

/// What the right operand B of a product is, of what is stored.
enum class Stored { plain, conjugate, adjoint };

template <class T>
struct ComplexKernels {
  // out (2 k, 2 n) so that the real product A out is the complex product A (sign B), A and C as they are stored. b is
  // stored (k, n), of an adjoint (n, k).
  void (*expand)(const T* b, Index stride, Stored how, Index k, Index n, T sign, T* out, Index out_stride);
  // Cholesky of a block, n <= kFactorBlock, its lower triangle in place and zeros above; inverse (n, n), rows 2
  // kFactorBlock numbers apart, is that of the factor. Returns n, or the pivot that is not above 0, and its value.
  Index (*factor_block)(T* a, Index stride, Index n, T* inverse, T* value);
  // out (n, m) = factor times the transpose of a (m, n), or the adjoint
  void (*transpose)(const T* a, Index stride, Index m, Index n, T factor, bool conjugate, T* out, Index out_stride);
  // out (n, n) = factor times the lower triangle of a, zeros above; returns the largest |part| of a - adjoint, or NaN
  T (*lower)(const T* a, Index stride, Index n, T factor, T* out, Index out_stride);
  // out (n, n) = factor (a + adjoint of a), in place allowed
  void (*hermitian_sum)(const T* a, Index stride, Index n, T factor, T* out, Index out_stride);
  // out (n, n) = factor times the Hermitian matrix whose lower (or upper) triangle is that of a, in place allowed
  void (*mirror)(const T* a, Index stride, Index n, bool upper, T factor, T* out, Index out_stride);
  // A = Q T Q^H, see kernels/rows/tridiagonalize.h
  void (*tridiagonalize)(const T* a, Index stride, Index n, T* d, T* e, T* v, T* tau, T* memory);
  // T = Z diag(d) Z^T, see kernels/rows/tridiagonal.h
  bool (*tridiagonal_ql)(double* d, double* e, Index n, T* rotations, Index stride, T* z);
};

template <class T>
const ComplexKernels<T>& complex_kernels();  // of the active instruction set

}  // namespace loopos::kernels
