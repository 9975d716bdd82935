// Chooses the instruction set once, at first use: the best the processor has, or what LOOPOS_ISA names.
#include <cstdlib>
#include <cstring>

#include "core/check.h"
#include "kernels/isa/table.h"

namespace loopos::kernels {

namespace baseline {
IsaKernels isa_kernels();
}  // namespace baseline
#if defined(LOOPOS_X86)
namespace avx2 {
IsaKernels isa_kernels();
}  // namespace avx2
namespace avx512 {
IsaKernels isa_kernels();
}  // namespace avx512
#endif

bool supported(Isa isa) {
#if defined(LOOPOS_X86)
  if (isa == Isa::avx512)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
  if (isa == Isa::avx2) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
  return isa == Isa::baseline;
}

namespace {

Isa choose() {
  const char* wanted = std::getenv("LOOPOS_ISA");
  if (wanted && *wanted) {
    for (Isa isa : {Isa::baseline, Isa::avx2, Isa::avx512})
      if (std::strcmp(wanted, isa_name(isa)) == 0) {
        require(supported(isa), "LOOPOS_ISA='", wanted, "': this processor or build does not have it");
        return isa;
      }
    require(false, "LOOPOS_ISA='", wanted, "': expected baseline, avx2 or avx512");
  }
  for (Isa isa : {Isa::avx512, Isa::avx2})
    if (supported(isa)) return isa;
  return Isa::baseline;
}

struct Active {
  Isa isa;
  IsaKernels kernels;
};

const Active& active() {
  static const Active chosen = [] {
    const Isa isa = choose();
#if defined(LOOPOS_X86)
    if (isa == Isa::avx512) return Active{isa, avx512::isa_kernels()};
    if (isa == Isa::avx2) return Active{isa, avx2::isa_kernels()};
#endif
    return Active{isa, baseline::isa_kernels()};
  }();
  return chosen;
}

}  // namespace

Isa active_isa() {
  return active().isa;
}

const char* isa_name(Isa isa) {
  return isa == Isa::avx512 ? "avx512" : isa == Isa::avx2 ? "avx2" : "baseline";
}

template <>
const Table<float>& table<float>() {
  return active().kernels.f32;
}
template <>
const Table<double>& table<double>() {
  return active().kernels.f64;
}

const MomentKernels& moments() {
  return active().kernels.moments;
}

template <>
const ComplexKernels<float>& complex_kernels<float>() {
  return active().kernels.complex_f32;
}
template <>
const ComplexKernels<double>& complex_kernels<double>() {
  return active().kernels.complex_f64;
}

const GemmShape& gemm_shape() {
  return active().kernels.shape;
}
void pack_b(const Matrix<float>& b, float* packed) {
  active().kernels.pack_b(b, packed);
}
void pack_a(const Matrix<float>& a, float* packed) {
  active().kernels.pack_a(a, packed);
}
void multiply_block(const FloatBlock& block) {
  active().kernels.multiply_f32(block);
}
void multiply_block(const DoubleBlock& block) {
  active().kernels.multiply_f64(block);
}
void multiply_row(const float* x, const Matrix<float>& w, Index depth, bool add, float* y) {
  active().kernels.multiply_row(x, w, depth, add, y);
}

namespace {
const auto& of(Panels<Storage::bfloat16>) {
  return active().kernels.bfloat16;
}
const auto& of(Panels<Storage::int8>) {
  return active().kernels.int8;
}
const auto& of(Panels<Storage::nf4>) {
  return active().kernels.nf4;
}
const auto& of(Panels<Storage::int4>) {
  return active().kernels.int4;
}
}  // namespace
template <Storage kind>
void pack_b(const Matrix<Panels<kind>>& b, float* packed) {
  of(Panels<kind>{}).pack_b(b, packed);
}
template <Storage kind>
void multiply_rows(const RowsBlock<kind>& block) {
  of(Panels<kind>{}).multiply_rows(block);
}
#define LOOPOS_INSTANTIATE(kind)                             \
  template void pack_b(const Matrix<Panels<kind>>&, float*); \
  template void multiply_rows(const RowsBlock<kind>&);
LOOPOS_INSTANTIATE(Storage::bfloat16)
LOOPOS_INSTANTIATE(Storage::int8)
LOOPOS_INSTANTIATE(Storage::nf4)
LOOPOS_INSTANTIATE(Storage::int4)

const PieceKernels& emulated_pieces() {
  return active().kernels.emulated;
}
Index multiply_adds(Index rounds, float* out) {
  return active().kernels.multiply_adds(rounds, out);
}

}  // namespace loopos::kernels
