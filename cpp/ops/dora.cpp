#include "ops/dora.h"

#include <algorithm>
#include <cmath>

#include "core/buffer.h"
#include "core/thread_pool.h"
#include "kernels/isa/table.h"
#include "ops/column_sums.h"

namespace loopos {
namespace {

struct WeightRows;
struct WideA;
struct WideRow;

}  // namespace

template <class T>
void dora_norms(const ReadRows<T>& weight, const LowRank<T>& part, Index in, double* c) {
  double* a = scratch<double, WideA>(part.rank * in);
  std::copy_n(part.a, part.rank * in, a);
  constexpr Index kRows = 8;
  parallel_blocks(part.width, kRows, [&](Index begin, Index end) {
    T* rows = scratch<T, WeightRows>(kRows * in);
    double* row = scratch<double, WideRow>(in);
    weight(part.first + begin, end - begin, rows);
    for (Index j = begin; j < end; ++j) {
      std::copy_n(rows + (j - begin) * in, in, row);
      for (Index r = 0; r < part.rank; ++r)
        kernels::table<double>().axpy(a + r * in, in, part.scale * static_cast<double>(part.b[j * part.rank + r]), row);
      c[j] = std::sqrt(kernels::table<double>().sum_squares(row, in));
    }
  });
}

template <class T>
void dora_gains(const T* magnitude, const double* c, Index n, T* gain, T* inverse) {
  for (Index j = 0; j < n; ++j) {
    gain[j] = static_cast<T>(static_cast<double>(magnitude[j]) / c[j]);
    inverse[j] = static_cast<T>(1 / c[j]);
  }
}

template <class T>
void dora_forward(const T* gain, const T* bias, const T* residual, Index rows, Index out, T* y) {
  const auto& k = kernels::table<T>();
  parallel_blocks(rows, row_grain(out), [&](Index begin, Index end) {
    for (Index r = begin; r < end; ++r) {
      T* row = y + r * out;
      k.multiply(row, gain, out, row);
      if (bias) k.add(row, bias, out, row);
      if (residual) k.add(residual + r * out, row, out, row);
    }
  });
}

template <class T>
void dora_backward(const T* dy, const T* gain, Index rows, Index out, T* dz) {
  parallel_blocks(rows, row_grain(out), [&](Index begin, Index end) {
    for (Index r = begin; r < end; ++r) kernels::table<T>().multiply(dy + r * out, gain, out, dz + r * out);
  });
}

template <class T>
void dora_magnitude_gradient(const T* dy, const T* inverse, Index rows, Index first, Index width, Index out, T* z,
                             T* dm) {
  const auto& k = kernels::table<T>();
  parallel_blocks(rows, row_grain(width), [&](Index begin, Index end) {
    for (Index r = begin; r < end; ++r) {
      T* row = z + r * out + first;
      k.multiply(row, inverse + first, width, row);
      k.multiply(row, dy + r * out + first, width, row);
    }
  });
  add_column_sums(z + first, rows, width, out, dm);
}

#define LOOPOS_INSTANTIATE(T)                                                      \
  template void dora_norms(const ReadRows<T>&, const LowRank<T>&, Index, double*); \
  template void dora_gains(const T*, const double*, Index, T*, T*);                \
  template void dora_forward(const T*, const T*, const T*, Index, Index, T*);      \
  template void dora_backward(const T*, const T*, Index, Index, T*);               \
  template void dora_magnitude_gradient(const T*, const T*, Index, Index, Index, Index, T*, T*);
LOOPOS_INSTANTIATE(float)
LOOPOS_INSTANTIATE(double)

}  // namespace loopos
