// Compiled once per instruction set, as table.cpp is.
#include "kernels/isa/complex.h"

#include "kernels/rows/complex.h"
#include "kernels/rows/complex_factor.h"
#include "kernels/rows/tridiagonal.h"
#include "kernels/rows/tridiagonalize.h"

namespace loopos::kernels::LOOPOS_ISA_NAME {

template <class T>
ComplexKernels<T> make_complex() {
  return {expand<T>,        factor_block<T>, transpose_complex<T>, lower<T>,
          hermitian_sum<T>, mirror<T>,       tridiagonalize<T>,    tridiagonal_ql<T>};
}

template ComplexKernels<float> make_complex();
template ComplexKernels<double> make_complex();

}  // namespace loopos::kernels::LOOPOS_ISA_NAME
