#include "ops/global_norm.h"

#include <algorithm>
#include <cmath>

#include "core/buffer.h"
#include "core/thread_pool.h"
#include "kernels/isa/table.h"

namespace loopos {
namespace {

constexpr Index kBlock = kNormBlock;

/// Calls body(slot, data, n) for every block of every array, and returns how many blocks there are.
template <class T, class Body>
Index each_block(const Span<T>* arrays, Index count, const Body& body) {
  struct Starts;
  Index* starts = scratch<Index, Starts>(count + 1);  // number of the first block of each array
  starts[0] = 0;
  for (Index i = 0; i < count; ++i) starts[i + 1] = starts[i] + (arrays[i].size + kBlock - 1) / kBlock;
  parallel_blocks(starts[count], 4, [&](Index begin, Index end) {
    Index i = std::upper_bound(starts, starts + count + 1, begin) - starts - 1;
    for (Index block = begin; block < end; ++block) {
      while (block >= starts[i + 1]) ++i;
      const Index from = (block - starts[i]) * kBlock;
      body(block, arrays[i].data + from, std::min(kBlock, arrays[i].size - from));
    }
  });
  return starts[count];
}

double ordered_sum(const double* slots, Index n) {
  double total = 0;
  for (Index i = 0; i < n; ++i) total += slots[i];
  return total;
}

}  // namespace

double ScaledNorm::value() const {
  return std::ldexp(mantissa, exponent);
}

template <class T>
ScaledNorm scaled_norm(const Span<T>* arrays, Index count) {
  const auto& k = kernels::table<T>();
  Index blocks = 0;
  for (Index i = 0; i < count; ++i) blocks += (arrays[i].size + kBlock - 1) / kBlock;
  struct Slots;
  double* slots = scratch<double, Slots>(blocks);
  each_block(arrays, count, [&](Index slot, const T* x, Index n) { slots[slot] = k.sum_squares(x, n); });
  const double total = ordered_sum(slots, blocks);
  // Squares that vanished are below 2^-1074, so they cannot matter to a sum of this size.
  if (total > 1e-250 && total < 1e300) return {std::sqrt(total), 0};

  each_block(arrays, count,
             [&](Index slot, const T* x, Index n) { slots[slot] = static_cast<double>(k.max_abs(x, n)); });
  double top = 0;
  for (Index i = 0; i < blocks && !std::isnan(top); ++i) top = std::isnan(slots[i]) || slots[i] > top ? slots[i] : top;
  if (top == 0 || !std::isfinite(top)) return {top, 0};
  const int exponent = std::ilogb(top);
  each_block(arrays, count, [&](Index slot, const T* x, Index n) {
    double sum = 0;
    for (Index i = 0; i < n; ++i) {
      const double v = std::ldexp(static_cast<double>(x[i]), -exponent);
      sum += v * v;
    }
    slots[slot] = sum;
  });
  return {std::sqrt(ordered_sum(slots, blocks)), exponent};
}

template <class T>
double global_norm(const Span<T>* arrays, Index count) {
  return scaled_norm(arrays, count).value();
}

template <class T>
void square_sums(const T* x, Index size, Index first, Index last, double* sums) {
  const auto& k = kernels::table<T>();
  parallel_blocks(last - first, 4, [&](Index begin, Index end) {
    for (Index block = begin; block < end; ++block) {
      const Index from = (first + block) * kBlock;
      sums[block] = k.sum_squares(x + from, std::min(kBlock, size - from));
    }
  });
}

template <class T>
void scale_to_norm(const T* x, Index n, double max_norm, ScaledNorm norm, T* y) {
  // max_norm / norm = ratio 2^shift, applied in two steps when the ratio as a whole would not be a normal number.
  int shift;
  const double ratio = std::frexp(max_norm / norm.mantissa, &shift);
  shift -= norm.exponent;
  const bool small = shift < -1000;
  const double first = small ? std::ldexp(1.0, shift / 2) : 1.0,
               second = std::ldexp(ratio, small ? shift - shift / 2 : shift);
  parallel_blocks(n, 32768, [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) y[i] = static_cast<T>(static_cast<double>(x[i]) * first * second);
  });
}

#define LOOPOS_INSTANTIATE(T)                                        \
  template ScaledNorm scaled_norm(const Span<T>*, Index);            \
  template double global_norm(const Span<T>*, Index);                \
  template void square_sums(const T*, Index, Index, Index, double*); \
  template void scale_to_norm(const T*, Index, double, ScaledNorm, T*);
LOOPOS_INSTANTIATE(float)
LOOPOS_INSTANTIATE(double)

}  // namespace loopos
