// The instructions of the inner loop: reads at a few strides from a pointer, and the multiply-add.
#pragma once

#include "kernels/gemm/matrix.h"
#include "kernels/isa/vec.h"

namespace loopos::kernels::LOOPOS_ISA_NAME {

/// Reaches 0 to 3 strides from a pointer: an address holds each of them as one register besides the pointer.
struct Strides {
  Index stride, triple;
  explicit Strides(Index s) : stride(s), triple(3 * s) {}
};

// The number of instructions bounds the inner loop, so it is written in instructions. The compiler would keep a pointer
// for each row and step, far more than there are registers, and copy the sums back and forth. AddressSanitizer does not
// see such reads: its builds take the plain loop.
#if defined(__AVX2__) && !defined(__SANITIZE_ADDRESS__)
#if defined(__AVX512F__)
#define LOOPOS_VECTOR "v"
#else
#define LOOPOS_VECTOR "x"
#endif
/// What `instruction` (broadcast or move) reads at pointer[STEPS stride + OFFSET].
#define LOOPOS_READ(instruction)                                                                           \
  V<float> x;                                                                                              \
  const auto& memory = *reinterpret_cast<const float (*)[]>(pointer);                                      \
  if constexpr (STEPS == 0)                                                                                \
    asm(instruction " %c2(%1), %0" : "=" LOOPOS_VECTOR(x.v) : "r"(pointer), "i"(4 * OFFSET), "m"(memory)); \
  else if constexpr (STEPS == 3)                                                                           \
    asm(instruction " %c3(%1,%2,4), %0"                                                                    \
        : "=" LOOPOS_VECTOR(x.v)                                                                           \
        : "r"(pointer), "r"(strides.triple), "i"(4 * OFFSET), "m"(memory));                                \
  else                                                                                                     \
    asm(instruction " %c3(%1,%2,%c4), %0"                                                                  \
        : "=" LOOPOS_VECTOR(x.v)                                                                           \
        : "r"(pointer), "r"(strides.stride), "i"(4 * OFFSET), "i"(4 * STEPS), "m"(memory));                \
  return x
template <int STEPS, int OFFSET>
inline V<float> broadcast(const float* pointer, const Strides& strides) {
  LOOPOS_READ("vbroadcastss");
}
template <int STEPS, int OFFSET>
inline V<float> read(const float* pointer, const Strides& strides) {
  LOOPOS_READ("vmovups");
}
inline void add_product(V<float>& sum, V<float> a, V<float> b) {
  asm("vfmadd231ps %2, %1, %0" : "+" LOOPOS_VECTOR(sum.v) : LOOPOS_VECTOR(a.v), LOOPOS_VECTOR(b.v));
}
#undef LOOPOS_READ
#undef LOOPOS_VECTOR
#else
template <int STEPS, int OFFSET>
inline V<float> broadcast(const float* pointer, const Strides& strides) {
  return V<float>(pointer[STEPS * strides.stride + OFFSET]);
}
template <int STEPS, int OFFSET>
inline V<float> read(const float* pointer, const Strides& strides) {
  return V<float>::load(pointer + STEPS * strides.stride + OFFSET);
}
inline void add_product(V<float>& sum, V<float> a, V<float> b) {
  sum = fma(a, b, sum);
}
#endif

}  // namespace loopos::kernels::LOOPOS_ISA_NAME
