// The kernels of weights that are stored small, compiled once per instruction set as table.cpp is.
#include "kernels/gemm/stored_kernels.h"

#include "kernels/isa/table.h"

namespace loopos::kernels::LOOPOS_ISA_NAME {
namespace {

template <Storage kind>
StoredKernels<kind> kernels_of() {
  return {pack_stored<kind>, [](const RowsBlock<kind>& block) { multiply_rows_stored(block); }};
}

}  // namespace

StoredKernels<Storage::bfloat16> bfloat16_kernels() {
  return kernels_of<Storage::bfloat16>();
}
StoredKernels<Storage::int8> int8_kernels() {
  return kernels_of<Storage::int8>();
}
StoredKernels<Storage::nf4> nf4_kernels() {
  return kernels_of<Storage::nf4>();
}
StoredKernels<Storage::int4> int4_kernels() {
  return kernels_of<Storage::int4>();
}

}  // namespace loopos::kernels::LOOPOS_ISA_NAME
