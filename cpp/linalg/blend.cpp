#include "linalg/blend.h"

#include "core/buffer.h"
#include "kernels/isa/table.h"

namespace loopos {
namespace {
constexpr Index kBlock = 8192;  // real numbers of a partial sum
struct Partial;
struct Difference;
}  // namespace

template <class T>
void blend_forward(const Complex<T>* a, const Complex<T>* b, Index size, double beta, Complex<T>* y) {
  const T of_a = static_cast<T>(1 - beta), of_b = static_cast<T>(beta);
  parallel_blocks(2 * size, kBlock, [&](Index begin, Index end) {
    kernels::table<T>().blend(reals(a) + begin, of_a, reals(b) + begin, of_b, end - begin, reals(y) + begin);
  });
}

template <class T>
double blend_backward(const Complex<T>* dy, const Complex<T>* a, const Complex<T>* b, Index size, double beta,
                      Complex<T>* da, Complex<T>* db) {
  const auto& k = kernels::table<T>();
  const T of_a = static_cast<T>(1 - beta), of_b = static_cast<T>(beta);
  const Index blocks = (2 * size + kBlock - 1) / kBlock;
  double* partial = scratch<double, Partial>(std::max<Index>(1, blocks));
  parallel_blocks(2 * size, kBlock, [&](Index begin, Index end) {
    const T* from = reals(dy) + begin;
    T* difference = scratch<T, Difference>(kBlock);
    k.scale(from, end - begin, of_a, reals(da) + begin);
    k.scale(from, end - begin, of_b, reals(db) + begin);
    k.blend(reals(b) + begin, T(1), reals(a) + begin, T(-1), end - begin, difference);
    partial[begin / kBlock] = k.dot(from, difference, end - begin);
  });
  double sum = 0;
  for (Index i = 0; i < blocks; ++i) sum += partial[i];
  return sum;
}

#define LOOPOS_INSTANTIATE(T)                                                                                         \
  template void blend_forward(const Complex<T>*, const Complex<T>*, Index, double, Complex<T>*);                      \
  template double blend_backward(const Complex<T>*, const Complex<T>*, const Complex<T>*, Index, double, Complex<T>*, \
                                 Complex<T>*);
LOOPOS_INSTANTIATE(float)
LOOPOS_INSTANTIATE(double)

}  // namespace loopos
