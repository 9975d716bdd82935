// Compiled once per instruction set: instantiates every kernel and fills the tables. Adding a kernel: a line in
// table.h, a line here.
#include "kernels/isa/table.h"

#include "kernels/gemm/micro_kernel.h"
#include "kernels/gemm/pack.h"
#include "kernels/gemm/row.h"
#include "kernels/isa/peak.h"
#include "kernels/rows/activation.h"
#include "kernels/rows/attention.h"
#include "kernels/rows/basic.h"
#include "kernels/rows/dropout.h"
#include "kernels/rows/norm.h"
#include "kernels/rows/update.h"

namespace loopos::kernels::LOOPOS_ISA_NAME {

void multiply_double(const DoubleBlock& block);       // gemm/eigen.cpp
StoredKernels<Storage::bfloat16> bfloat16_kernels();  // gemm/stored_kernels.cpp
StoredKernels<Storage::int8> int8_kernels();
StoredKernels<Storage::nf4> nf4_kernels();
StoredKernels<Storage::int4> int4_kernels();
PieceKernels emulated_pieces();  // pieces/emulated.cpp
MomentKernels moment_kernels();  // isa/moments.cpp
template <class T>
ComplexKernels<T> make_complex();  // isa/complex.cpp

template <class T>
Table<T> make_table() {
  Table<T> t{};
  t.max = row_max<T>;
  t.exp_sum = exp_sum_store<T>;
  t.exp_sum_only = exp_sum_only<T>;
  t.add = add<T>;
  t.scale = scale<T>;
  t.axpy = axpy<T>;
  t.blend = blend<T>;
  t.sign = sign<T>;
  t.dot = dot<T>;
  t.sum = sum<T>;
  t.sum_squares = sum_squares<T>;
  t.max_abs = max_abs<T>;
  t.first_nonfinite = first_nonfinite<T>;
  t.scale_add = scale_add<T>;
  t.multiply = multiply<T>;
  t.subtract_twice = subtract_twice<T>;
  t.log_softmax_backward = log_softmax_backward<T>;
#define LOOPOS_ROW(name, F)                                                                    \
  t.activation[static_cast<int>(Activation::name)] = {activate<T, F>, activate_backward<T, F>, \
                                                      activate_with_slope<T, F>};
  LOOPOS_ACTIVATIONS(LOOPOS_ROW)
#undef LOOPOS_ROW
  t.swiglu = swiglu<T>;
  t.swiglu_backward = swiglu_backward<T>;
  t.dropout_scales = dropout_scales<T>;
  t.softmax_row = softmax_row<T>;
  t.exp_row = exp_row<T>;
  t.finite_rows = finite_rows<T>;
  t.prefetch_rows = prefetch_rows<T>;
  t.softmax_backward = softmax_backward<T>;
  t.norm_means = norm_means<T>;
  t.norm_stats = norm_stats<T>;
  t.norm_apply = norm_apply<T>;
  t.norm_grad_sums = norm_grad_sums<T>;
  t.norm_grad_apply = norm_grad_apply<T>;
  t.column_sums = column_sums<T>;
  t.rotate = rotate<T>;
  t.sgd_update = sgd_update<T>;
  t.adam_update = adam_update<T>;
  return t;
}

IsaKernels isa_kernels() {
  IsaKernels k{};
  k.f32 = make_table<float>();
  k.f64 = make_table<double>();
  k.shape = {MR, NR, kLanes, KC};
  k.pack_b = pack_b_float;
  k.pack_a = pack_a_float;
  k.multiply_f32 = multiply_float;
  k.multiply_f64 = multiply_double;
  k.multiply_row = multiply_row_float;
  k.bfloat16 = bfloat16_kernels();
  k.int8 = int8_kernels();
  k.nf4 = nf4_kernels();
  k.int4 = int4_kernels();
  k.emulated = emulated_pieces();
  k.moments = moment_kernels();
  k.complex_f32 = make_complex<float>();
  k.complex_f64 = make_complex<double>();
  k.multiply_adds = multiply_adds;
  return k;
}

}  // namespace loopos::kernels::LOOPOS_ISA_NAME
