// The kernels of one instruction set: plain function pointers, one table per dtype. T is float or double; rows have n elements.
#pragma once

#include <cstdint>

namespace loopos::kernels {

using Index = std::int64_t;

template <class T>
struct GemmBlock {  // C (m, n) = A (m, k) B (k, n) [+ C]; see gemm.h
  bool transpose_a, transpose_b;
  Index m, n, k;
  const T* a;
  Index lda;
  const T* b;
  Index ldb;
  T* c;
  Index ldc;
  bool accumulate;
};

/// How the float product is blocked for this instruction set.
struct GemmShape {
  Index rows, columns, depth;  // register tile (MR, NR) and the depth KC of a packed block
};

template <class T>
struct Table {
  // softmax family
  T (*max)(const T* x, Index n);                                  // NaN if any element is NaN
  double (*exp_sum)(const T* x, Index n, T shift, T* y);          // y = e^(x - shift); returns the sum of y
  double (*exp_sum_only)(const T* x, Index n, T shift);           // the same sum, nothing stored
  void (*exp_shifted)(const T* x, Index n, T shift, T factor, T* y);  // y = factor e^(x - shift)
  // plain vectors
  void (*add)(const T* a, const T* b, Index n, T* y);             // y = a + b
  void (*scale)(const T* x, Index n, T factor, T* y);             // y = factor x
  void (*axpy)(const T* x, Index n, T factor, T* y);              // y += factor x
  double (*dot)(const T* a, const T* b, Index n);
  double (*sum)(const T* x, Index n);
  double (*sum_squares)(const T* x, Index n);
  T (*max_abs)(const T* x, Index n);                              // inf or NaN if any element is
  Index (*first_nonfinite)(const T* x, Index n);                  // n if all are finite
  // attention rows
  void (*softmax_backward)(const T* p, const T* dp, Index n, T delta, T scale, T* ds);  // ds = scale p (dp - delta)
};

template <class T>
const Table<T>& table();  // of the active instruction set

const GemmShape& gemm_shape();
/// Packs rows [0, n) of the transposed or plain B (k, n) into panels of NR columns: panel p holds k rows of NR numbers, zero padded.
void pack_b(const float* b, Index ldb, bool transposed, Index k, Index n, float* packed);
/// Packs a transposed A, stored (k, m), into panels of MR rows: panel p holds k columns of MR numbers, zero padded.
void pack_a(const float* a, Index lda, Index k, Index m, float* packed);
/// One block with k <= KC. Row panel p of A starts at a + p panel; element (i, j) of a panel is at i row_stride + j column_stride. B is packed.
struct FloatBlock {
  Index m, n, k;
  const float* a;
  Index panel, row_stride, column_stride;
  const float* b;
  Index b_panel;  // distance of two panels of B
  float* c;
  Index ldc;
  bool accumulate;
};
void multiply_block(const FloatBlock& block);
void multiply_block(const GemmBlock<double>& block);

enum class Isa { baseline, avx2, avx512 };
Isa active_isa();
const char* isa_name(Isa isa);

/// What one instruction set brings; filled in table.cpp and gemm_eigen.cpp, chosen in dispatch.cpp.
struct IsaKernels {
  Table<float> f32;
  Table<double> f64;
  GemmShape shape;
  void (*pack_b)(const float*, Index, bool, Index, Index, float*);
  void (*pack_a)(const float*, Index, Index, Index, float*);
  void (*multiply_f32)(const FloatBlock&);
  void (*multiply_f64)(const GemmBlock<double>&);
};

}  // namespace loopos::kernels
