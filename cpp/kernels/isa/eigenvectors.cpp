// Eigenvalues and eigenvectors of a Hermitian matrix, by Eigen: Householder reflections to a real tridiagonal matrix, QL
// rotations on that with real eigenvectors, and one product that brings these back (half the arithmetic of rotating
// complex ones). Compiled once per instruction set, as gemm/eigen.cpp is; what is allocated here is Eigen's, aligned, so
// that bits do not depend on where the caller's numbers lie.
#include <Eigen/Eigenvalues>
#include <complex>

#include "core/check.h"

namespace loopos::kernels::LOOPOS_ISA_NAME {

template <class T>
bool eigenvectors(const T* a, Index stride, Index n, T* w, T* v) {
  using Complexes = Eigen::Matrix<std::complex<T>, Eigen::Dynamic, Eigen::Dynamic>;
  using Reals = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic>;
  if (n == 1) {
    w[0] = a[0];
    v[0] = 1;
    v[1] = 0;
    return true;
  }
  Complexes matrix(n, n);
  for (Index i = 0; i < n; ++i)
    for (Index j = 0; j <= i; ++j) matrix(i, j) = std::complex<T>(a[i * stride + 2 * j], a[i * stride + 2 * j + 1]);
  const Eigen::Tridiagonalization<Complexes> tridiagonal(matrix);
  Eigen::SelfAdjointEigenSolver<Reals> solver;
  const Eigen::Matrix<T, Eigen::Dynamic, 1> diagonal = tridiagonal.diagonal(), below = tridiagonal.subDiagonal();
  solver.computeFromTridiagonal(diagonal, below, Eigen::ComputeEigenvectors);
  if (solver.info() != Eigen::Success) return false;
  const Complexes q = tridiagonal.matrixQ();
  const Reals &z = solver.eigenvectors(), real = q.real() * z, imaginary = q.imag() * z;
  for (Index i = 0; i < n; ++i) {
    w[i] = solver.eigenvalues()(i);
    for (Index j = 0; j < n; ++j) {
      v[i * stride + 2 * j] = real(i, j);
      v[i * stride + 2 * j + 1] = imaginary(i, j);
    }
  }
  return true;
}

template bool eigenvectors(const float*, Index, Index, float*, float*);
template bool eigenvectors(const double*, Index, Index, double*, double*);

}  // namespace loopos::kernels::LOOPOS_ISA_NAME
