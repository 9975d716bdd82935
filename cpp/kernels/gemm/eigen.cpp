// The double product, by Eigen: the reference that the float kernels are held against, and what float64 models run on.
// It shares nothing with the float kernels, so an agreement of the two is evidence.
#define EIGEN_GEMM_TO_COEFFBASED_PRODUCT_THRESHOLD \
  0  // small products too go the packed way: bits never depend on alignment

#include <Eigen/Core>

#include "kernels/isa/table.h"

namespace loopos::kernels::LOOPOS_ISA_NAME {

using RowMajor = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using ConstMap = Eigen::Map<const RowMajor, 0, Eigen::OuterStride<>>;
using Map = Eigen::Map<RowMajor, 0, Eigen::OuterStride<>>;

const double& element(const Matrix<double>& x, Index i, Index j) {
  return x.transposed ? x.data[j * x.stride + i] : x.data[i * x.stride + j];
}

/// Vectors go through a plain loop: Eigen would call its matrix-vector product, which looks at alignment.
void multiply_vector(const DoubleBlock& g) {
  for (Index i = 0; i < g.a.rows; ++i)
    for (Index j = 0; j < g.b.columns; ++j) {
      double s = 0;
      for (Index p = 0; p < g.a.columns; ++p) s += element(g.a, i, p) * element(g.b, p, j);
      double& c = g.c.data[i * g.c.stride + j];
      c = g.accumulate ? c + s : s;
    }
}

/// What is stored, as it lies.
ConstMap stored(const Matrix<double>& x) {
  return ConstMap(x.data, x.transposed ? x.columns : x.rows, x.transposed ? x.rows : x.columns,
                  Eigen::OuterStride<>(x.stride));
}

void multiply_double(const DoubleBlock& g) {
  if (g.a.rows == 1 || g.b.columns == 1 || g.a.columns == 1) return multiply_vector(g);
  const ConstMap a = stored(g.a), b = stored(g.b);
  Map c(g.c.data, g.a.rows, g.b.columns, Eigen::OuterStride<>(g.c.stride));
  if (!g.accumulate) c.setZero();
  if (g.a.transposed && g.b.transposed)
    c.noalias() += a.transpose() * b.transpose();
  else if (g.a.transposed)
    c.noalias() += a.transpose() * b;
  else if (g.b.transposed)
    c.noalias() += a * b.transpose();
  else
    c.noalias() += a * b;
}

}  // namespace loopos::kernels::LOOPOS_ISA_NAME
