// The double product, by Eigen: the reference that the float kernels are held against, and what float64 models run on.
// It shares nothing with the float kernels, so an agreement of the two is evidence.
#define EIGEN_GEMM_TO_COEFFBASED_PRODUCT_THRESHOLD \
  0  // small products too go the packed way: bits never depend on alignment

#include <Eigen/Core>

#include "kernels/table.h"

namespace loopos::kernels::LOOPOS_ISA_NAME {

using RowMajor = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using ConstMap = Eigen::Map<const RowMajor, 0, Eigen::OuterStride<>>;
using Map = Eigen::Map<RowMajor, 0, Eigen::OuterStride<>>;

/// Vectors go through a plain loop: Eigen would call its matrix-vector product, which looks at alignment.
void multiply_vector(const GemmBlock<double>& g) {
  for (Index i = 0; i < g.m; ++i)
    for (Index j = 0; j < g.n; ++j) {
      double s = 0;
      for (Index p = 0; p < g.k; ++p)
        s += (g.transpose_a ? g.a[p * g.lda + i] : g.a[i * g.lda + p]) *
             (g.transpose_b ? g.b[j * g.ldb + p] : g.b[p * g.ldb + j]);
      double& c = g.c[i * g.ldc + j];
      c = g.accumulate ? c + s : s;
    }
}

void multiply_double(const GemmBlock<double>& g) {
  if (g.m == 1 || g.n == 1 || g.k == 1) return multiply_vector(g);
  const ConstMap a(g.a, g.transpose_a ? g.k : g.m, g.transpose_a ? g.m : g.k, Eigen::OuterStride<>(g.lda));
  const ConstMap b(g.b, g.transpose_b ? g.n : g.k, g.transpose_b ? g.k : g.n, Eigen::OuterStride<>(g.ldb));
  Map c(g.c, g.m, g.n, Eigen::OuterStride<>(g.ldc));
  if (!g.accumulate) c.setZero();
  if (g.transpose_a && g.transpose_b)
    c.noalias() += a.transpose() * b.transpose();
  else if (g.transpose_a)
    c.noalias() += a.transpose() * b;
  else if (g.transpose_b)
    c.noalias() += a * b.transpose();
  else
    c.noalias() += a * b;
}

}  // namespace loopos::kernels::LOOPOS_ISA_NAME
