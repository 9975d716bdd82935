#include "linalg/factor.h"

#include <cmath>

#include "linalg/product.h"

namespace loopos {
namespace {

using kernels::kFactorBlock;
using kernels::kFactorNumbers;

struct L;
struct Inverses;
struct Expanded;
struct Column;

template <class T>
T* expansion(Index n) {
  return scratch<T, Expanded>(expanded_size(std::max(n, kFactorBlock), kFactorBlock));
}

/// Block column j of z (m rows) -= A B; A (m, k) has the stride of z.
template <class T>
void subtract_product(Index n, Index j, Index m, const T* a, Index k, const T* b, Stored how, T* z) {
  if (k == 0 || m == 0) return;
  const Index stride = row_stride(n), width = std::min(kFactorBlock, n - j);
  T* expanded = expansion<T>(n);
  expand(b, stride, how, k, width, T(-1), expanded);
  multiply(a, stride, m, k, expanded, width, true, z, stride);
}

/// Block column j of z (m rows) times the inverse of the diagonal block j, or times its adjoint.
template <class T>
void times_inverse(const T* inverses, Index n, Index j, Index m, Stored how, T* z) {
  if (m == 0) return;
  const Index stride = row_stride(n), width = std::min(kFactorBlock, n - j), packed = row_stride(kFactorBlock);
  T *expanded = expansion<T>(n), *column = scratch<T, Column>(m * packed);
  for (Index i = 0; i < m; ++i) std::copy(z + i * stride, z + i * stride + 2 * width, column + i * packed);
  expand(inverses + j / kFactorBlock * kFactorNumbers, 2 * kFactorBlock, how, width, width, T(1), expanded);
  multiply(column, packed, m, width, expanded, width, false, z, stride);
}

}  // namespace

template <class T>
Factor<T> factor(const Complex<T>* r, Index n) {
  const Index stride = row_stride(n), blocks = (n + kFactorBlock - 1) / kFactorBlock;
  T* l = matrix_scratch<T, L>(n, n);
  T* inverses = scratch<T, Inverses>(std::max<Index>(1, blocks) * kFactorNumbers);
  const Factor<T> f{l, inverses, n, load_hermitian("r", r, n, l)};
  for (Index j = 0; j < n; j += kFactorBlock) {
    const Index width = std::min(kFactorBlock, n - j);
    T *row = l + j * stride, *below = row + width * stride + 2 * j;
    subtract_product(n, j, n - j, row, j, row, Stored::adjoint, row + 2 * j);
    T value = 0;
    const Index pivot = kernels::complex_kernels<T>().factor_block(
        row + 2 * j, stride, width, inverses + j / kFactorBlock * kFactorNumbers, &value);
    if (pivot < width) {
      const double whole = std::ldexp(static_cast<double>(value), f.exponent);
      throw NotPositiveDefinite(cat("r must be positive definite, but pivot ", j + pivot, " of ", n, " is ", whole,
                                    "; load its diagonal, or see which eigenvalue is not above 0 (eigh)"),
                                j + pivot, whole);
    }
    times_inverse(inverses, n, j, n - j - width, Stored::adjoint, below);
  }
  return f;
}

template <class T>
void solve_adjoint_right(const Factor<T>& f, Index m, bool upper, T* z) {
  for (Index j = 0; j < f.n; j += kFactorBlock) {
    const Index rows = upper ? std::min(m, j + kFactorBlock) : m;
    subtract_product(f.n, j, rows, z, j, f.l + j * row_stride(f.n), Stored::adjoint, z + 2 * j);
    times_inverse(f.inverses, f.n, j, rows, Stored::adjoint, z + 2 * j);
  }
}

template <class T>
void solve_right(const Factor<T>& f, Index m, bool upper, T* z) {
  for (Index j = (f.n - 1) / kFactorBlock * kFactorBlock; f.n > 0 && j >= 0; j -= kFactorBlock) {
    const Index rows = upper ? std::min(m, j + kFactorBlock) : m, next = std::min(f.n, j + kFactorBlock);
    const T* l = f.l + next * row_stride(f.n) + 2 * j;
    subtract_product(f.n, j, rows, z + 2 * next, f.n - next, l, Stored::plain, z + 2 * j);
    times_inverse(f.inverses, f.n, j, rows, Stored::plain, z + 2 * j);
  }
}

template <class T>
void invert(const Factor<T>& f, T* z) {
  const Index stride = row_stride(f.n);
  std::fill(z, z + f.n * stride, T(0));
  for (Index i = 0; i < f.n; ++i) z[i * stride + 2 * i] = 1;
  solve_adjoint_right(f, f.n, true, z);
  solve_right(f, f.n, true, z);
}

#define LOOPOS_INSTANTIATE(T)                                           \
  template Factor<T> factor(const Complex<T>*, Index);                  \
  template void solve_adjoint_right(const Factor<T>&, Index, bool, T*); \
  template void solve_right(const Factor<T>&, Index, bool, T*);         \
  template void invert(const Factor<T>&, T*);
LOOPOS_INSTANTIATE(float)
LOOPOS_INSTANTIATE(double)

}  // namespace loopos
