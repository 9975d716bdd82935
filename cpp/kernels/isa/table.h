// The kernels of one instruction set: plain function pointers, one table per dtype. T is float or double; rows have n
// elements.
#pragma once

#include "kernels/gemm/block.h"
#include "kernels/isa/activations.h"
#include "kernels/isa/complex.h"
#include "kernels/isa/moments.h"
#include "kernels/pieces/pieces.h"

namespace loopos::kernels {

/// The mean of a row in two parts: (x - high) - low is right also where x and the mean are close.
template <class T>
struct RowMean {
  T high, low;
};

/// What the backward of a norm knows of a row: g = dy weight, xhat = (x - mean) rstd, the means of g and of g xhat.
template <class T>
struct NormGrad {
  RowMean<T> mean;
  T rstd, mean_g, mean_gx;
};
constexpr int kNormRows = 4;  // rows whose statistics a norm takes at once

/// Hyper-parameters of one update, ready for the kernel. The gradient is multiplied by power rest (the clip factor);
/// move false keeps every weight's bits (learning rate 0).
template <class T>
struct UpdateScale {
  T power, rest;
};
template <class T>
struct SgdUpdate {
  UpdateScale<T> scale;
  T lr, l2, momentum, one_minus_dampening;
  bool nesterov, first, move;
};
template <class T>
struct AdamUpdate {
  UpdateScale<T> scale;
  T l2, decay, one_minus_beta1, beta2, one_minus_beta2, inverse_root, eps, step_size;
  bool move;
};

template <class T>
struct Pointwise {
  void (*forward)(const T* x, Index n, T* y);                 // y = f(x)
  void (*backward)(const T* dy, const T* x, Index n, T* dx);  // dx = dy f'(x)
  void (*with_slope)(T* x, Index n, T* y);                    // y = f(x), and then x = f'(x)
};

template <class T>
struct Table {
  // softmax family
  T (*max)(const T* x, Index n);                          // NaN if any element is NaN
  double (*exp_sum)(const T* x, Index n, T shift, T* y);  // y = e^(x - shift); returns the sum of y
  double (*exp_sum_only)(const T* x, Index n, T shift);   // the same sum, nothing stored
  // plain vectors
  void (*add)(const T* a, const T* b, Index n, T* y);                // y = a + b
  void (*scale)(const T* x, Index n, T factor, T* y);                // y = factor x
  void (*axpy)(const T* x, Index n, T factor, T* y);                 // y += factor x
  void (*blend)(const T* x, T a, const T* y, T b, Index n, T* out);  // out = a x + b y
  void (*sign)(const T* x, Index n, T* y);                           // 1, -1, or x where it is 0 or NaN
  double (*dot)(const T* a, const T* b, Index n);
  double (*sum)(const T* x, Index n);
  double (*sum_squares)(const T* x, Index n);
  T (*max_abs)(const T* x, Index n);                                               // NaN if any is, else inf if any is
  Index (*first_nonfinite)(const T* x, Index n);                                   // n if all are finite
  void (*scale_add)(const T* x, Index n, T factor, T constant, T* y);              // y = factor x + constant
  void (*multiply)(const T* a, const T* b, Index n, T* y);                         // y = a b
  void (*subtract_twice)(const T* x, Index n, T first, T second, T* y);            // y = (x - first) - second
  void (*log_softmax_backward)(const T* dy, const T* y, Index n, T total, T* dx);  // dx = dy - e^y total
  // by Activation; in place allowed
  Pointwise<T> activation[kActivations];
  void (*swiglu)(const T* gate, const T* up, Index n, T* y);  // y = silu(gate) up
  void (*swiglu_backward)(const T* dy, const T* gate, const T* up, Index n, T* dgate, T* dup);
  // out[i] = scale where word i of Philox (key seed, counters from first_counter) exceeds limit, else 0
  void (*dropout_scales)(std::uint64_t seed, std::uint64_t first_counter, Index n, std::uint32_t limit, T scale,
                         T* out);
  // attention rows, padded: beyond n they are zeros up to `end`, whole vectors
  T (*softmax_row)(T* row, Index n, Index end, T scale);        // scale > 0; returns the log-sum-exp, -inf for zeros
  void (*exp_row)(T* row, Index n, Index end, T scale, T lse);  // row = e^(scale row - lse)
  bool (*finite_rows)(const T* x, Index stride, Index rows, Index n);  // whether all of (rows, n) is finite
  void (*prefetch_rows)(const T* x, Index stride, Index rows, Index n);
  void (*softmax_backward)(const T* p, const T* dp, Index n, T delta, T scale, T* ds);  // ds = scale p (dp - delta)
  // norms; weight, bias, dskip and each output may be null
  // means of `rows` rows (at most kNormRows) that lie one after another; and each one's sum of (x - mean)^2
  void (*norm_means)(const T* x, Index rows, Index n, RowMean<T>* means);
  void (*norm_stats)(const T* x, Index rows, Index n, RowMean<T>* means, double* squares);
  void (*norm_apply)(const T* x, const T* weight, const T* bias, Index n, RowMean<T> mean, T rstd, T* y);
  void (*norm_grad_sums)(const T* dy, const T* x, const T* weight, Index n, RowMean<T> mean, double* sum_g,
                         double* sum_gx);  // of g, g (x - mean)
  void (*norm_grad_apply)(const T* dy, const T* x, const T* weight, Index n, const NormGrad<T>& row, const T* dskip,
                          T* dx, T* dweight,
                          T* dbias);  // dx = rstd (g - mean_g - xhat mean_gx) + dskip; dweight += dy xhat; dbias += dy
  // sums[c] = sum over r of x[row(r) stride + c], row(r) = order[r step], or r where order is null
  void (*column_sums)(const T* x, Index stride, const Index* order, Index step, Index rows, Index n, double* sums);
  void (*rotate)(const T* x1, const T* x2, const T* cosine, const T* sine, T sign, Index n, T* y1,
                 T* y2);  // (x1, x2) by sign times the angle
  // optimizer updates
  void (*sgd_update)(const SgdUpdate<T>& u, const T* grad, Index n, T* p, T* momentum);  // momentum may be null
  // returns the largest |p| that it leaves; a NaN may be passed over
  T (*adam_update)(const AdamUpdate<T>& u, const T* grad, Index n, T* p, T* exp_avg, T* exp_avg_sq);
};

template <class T>
const Table<T>& table();  // of the active instruction set

/// Independent multiply-adds in registers; returns how many additions and multiplications it did (see peak.h).
Index multiply_adds(Index rounds, float* out);

enum class Isa { baseline, avx2, avx512 };
Isa active_isa();
bool supported(Isa isa);  // by this build and this processor
const char* isa_name(Isa isa);

/// Of one small storage type.
template <Storage kind>
struct StoredKernels {
  void (*pack_b)(const Matrix<Panels<kind>>&, float*);
  void (*multiply_rows)(const RowsBlock<kind>&);
};

/// What one instruction set brings; filled in table.cpp and gemm/eigen.cpp, chosen in dispatch.cpp.
struct IsaKernels {
  Table<float> f32;
  Table<double> f64;
  GemmShape shape;
  void (*pack_b)(const Matrix<float>&, float*);
  void (*pack_a)(const Matrix<float>&, float*);
  void (*multiply_f32)(const FloatBlock&);
  void (*multiply_f64)(const DoubleBlock&);
  void (*multiply_row)(const float*, const Matrix<float>&, Index depth, bool add, float*);
  StoredKernels<Storage::bfloat16> bfloat16;
  StoredKernels<Storage::int8> int8;
  StoredKernels<Storage::nf4> nf4;
  StoredKernels<Storage::int4> int4;
  PieceKernels emulated;  // null where there are no fused multiply-adds
  MomentKernels moments;
  ComplexKernels<float> complex_f32;
  ComplexKernels<double> complex_f64;
  Index (*multiply_adds)(Index rounds, float* out);
};

/// Of the active instruction set.
const PieceKernels& emulated_pieces();

}  // namespace loopos::kernels
