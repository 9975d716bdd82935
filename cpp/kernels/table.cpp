// Compiled once per instruction set: instantiates every kernel and fills the tables. Adding a kernel: a line in table.h, a line here.
#include "kernels/table.h"

#include "kernels/gemm_float.h"
#include "kernels/rows_basic.h"

namespace loopos::kernels::LOOPOS_ISA_NAME {

void multiply_double(const GemmBlock<double>& block);  // gemm_eigen.cpp

template <class T>
Table<T> make_table() {
  Table<T> t{};
  t.max = row_max<T>;
  t.exp_sum = exp_sum_store<T>;
  t.exp_sum_only = exp_sum_only<T>;
  t.exp_shifted = exp_shifted<T>;
  t.add = add<T>;
  t.scale = scale<T>;
  t.axpy = axpy<T>;
  t.dot = dot<T>;
  t.sum = sum<T>;
  t.sum_squares = sum_squares<T>;
  t.max_abs = max_abs<T>;
  t.first_nonfinite = first_nonfinite<T>;
  t.softmax_backward = softmax_backward<T>;
  return t;
}

IsaKernels isa_kernels() {
  IsaKernels k{};
  k.f32 = make_table<float>();
  k.f64 = make_table<double>();
  k.shape = {MR, NR, KC};
  k.pack_b = pack_b_float;
  k.pack_a = pack_a_float;
  k.multiply_f32 = multiply_float;
  k.multiply_f64 = multiply_double;
  return k;
}

}  // namespace loopos::kernels::LOOPOS_ISA_NAME
