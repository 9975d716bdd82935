#include "linalg/product.h"

#include "kernels/gemm/gemm.h"

namespace loopos {

template <class T>
void expand(const T* b, Index stride, Stored how, Index k, Index n, T sign, T* expanded) {
  kernels::complex_kernels<T>().expand(b, stride, how, k, n, sign, expanded, row_stride(n));
}

namespace {
template <class T>
void multiply_columns(const T* a, Index a_stride, Index m, Index k, const T* expanded, Index e_stride, Index n,
                      bool accumulate, T* c, Index c_stride) {
  kernels::Epilogue<T> epilogue;
  epilogue.accumulate = accumulate;
  kernels::gemm_serial(kernels::matrix(a, m, 2 * k, a_stride), kernels::matrix(expanded, 2 * k, 2 * n, e_stride),
                       kernels::Output<T>{c, c_stride}, epilogue);
}
}  // namespace

template <class T>
void multiply(const T* a, Index a_stride, Index m, Index k, const T* expanded, Index n, bool accumulate, T* c,
              Index c_stride) {
  multiply_columns(a, a_stride, m, k, expanded, row_stride(n), n, accumulate, c, c_stride);
}

template <class T>
void multiply_lower(const T* a, Index a_stride, Index n, Index k, const T* expanded, bool accumulate, T* c,
                    Index c_stride) {
  constexpr Index kColumns = 48;
  for (Index j = 0; j < n; j += kColumns)
    multiply_columns(a + j * a_stride, a_stride, n - j, k, expanded + 2 * j, row_stride(n), std::min(kColumns, n - j),
                     accumulate, c + j * c_stride + 2 * j, c_stride);
}

#define LOOPOS_INSTANTIATE(T)                                                              \
  template void expand(const T*, Index, Stored, Index, Index, T, T*);                      \
  template void multiply(const T*, Index, Index, Index, const T*, Index, bool, T*, Index); \
  template void multiply_lower(const T*, Index, Index, Index, const T*, bool, T*, Index);
LOOPOS_INSTANTIATE(float)
LOOPOS_INSTANTIATE(double)

}  // namespace loopos
