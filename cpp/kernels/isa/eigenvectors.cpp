// Eigenvalues and eigenvectors of a Hermitian matrix: Householder reflections, by Eigen, to a real tridiagonal matrix; QL
// steps on that with real vectors (kernels/rows/tridiagonal.h); and one product that brings these back. Compiled once per
// instruction set, as gemm/eigen.cpp is; what is allocated here is Eigen's, aligned, so that bits do not depend on where
// the caller's numbers lie.
#include <Eigen/Eigenvalues>
#include <complex>

#include "kernels/rows/tridiagonal.h"

namespace loopos::kernels::LOOPOS_ISA_NAME {

template <class T>
bool eigenvectors(const T* a, Index stride, Index n, T* w, T* v) {
  using Complexes = Eigen::Matrix<std::complex<T>, Eigen::Dynamic, Eigen::Dynamic>;
  using Rows = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  using Doubles = Eigen::Matrix<double, Eigen::Dynamic, 1>;
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
  Doubles d = tridiagonal.diagonal().template cast<double>(), e(n);
  e.head(n - 1) = tridiagonal.subDiagonal().template cast<double>();
  Rows z = Rows::Identity(n, (n + kRotated - 1) / kRotated * kRotated);
  Eigen::Matrix<T, Eigen::Dynamic, 1> rotations(2 * n);
  if (!tridiagonal_ql(d.data(), e.data(), n, reinterpret_cast<Rotation<T>*>(rotations.data()), z.cols(), z.data()))
    return false;
  const Complexes q = tridiagonal.matrixQ();  // as it lies, its transpose with rows of 2 n real numbers
  const Rows product = z.leftCols(n) * Eigen::Map<const Rows>(reinterpret_cast<const T*>(q.data()), n, 2 * n);
  Eigen::Matrix<Index, Eigen::Dynamic, 1> order(n);
  for (Index i = 0; i < n; ++i) {  // a stable order by insertion: QL leaves them nearly sorted
    Index at = i;
    for (; at > 0 && d(order(at - 1)) > d(i); --at) order(at) = order(at - 1);
    order(at) = i;
  }
  for (Index j = 0; j < n; ++j) {
    w[j] = static_cast<T>(d(order(j)));
    for (Index i = 0; i < 2 * n; i += 2) {
      v[i / 2 * stride + 2 * j] = product(order(j), i);
      v[i / 2 * stride + 2 * j + 1] = product(order(j), i + 1);
    }
  }
  return true;
}

template bool eigenvectors(const float*, Index, Index, float*, float*);
template bool eigenvectors(const double*, Index, Index, double*, double*);

}  // namespace loopos::kernels::LOOPOS_ISA_NAME
