// Compiled once per instruction set, as table.cpp is.
#include "kernels/isa/moments.h"

#include "kernels/rows/moments.h"

namespace loopos::kernels::LOOPOS_ISA_NAME {

MomentKernels moment_kernels() {
  return {moments_to_bfloat16,
          moments_from_bfloat16,
          {to_codes<false>, to_codes<true>},
          {from_codes<false>, from_codes<true>}};
}

}  // namespace loopos::kernels::LOOPOS_ISA_NAME
