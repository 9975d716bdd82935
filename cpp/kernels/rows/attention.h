// Kernels of one row of attention scores; see table.h for what each does. `end` is n rounded up to whole vectors at
// least: a row is padded with room for them.
#pragma once

#include "kernels/rows/basic.h"

namespace loopos::kernels::LOOPOS_ISA_NAME {

template <class T>
void clear_padding(T* row, Index n, Index end) {
  for (Index i = (n + V<T>::N - 1) / V<T>::N * V<T>::N; i < end; i += V<T>::N) V<T>(T(0)).store(row + i);
}

/// Calls body(offset, x) with whole vectors of scale row, -inf in the lanes beyond n.
template <class T, class Body>
inline void scaled_row(const T* row, Index n, T scale, Body&& body) {
  for_each_vector<T>(n,
                     [&](Index i, auto count) { body(i, V<T>(scale) * load_filled<T>(row + i, count, kNothing<T>)); });
}

template <class T>
T softmax_row(T* row, Index n, Index end, T scale) {
  const T top = scale * row_max(row, n);  // rounding is monotone: the largest product is that of the largest number
  if (top == kNothing<T>) {
    for (Index i = 0; i < end; i += V<T>::N) V<T>(T(0)).store(row + i);
    return top;
  }
  WideSum<T> sums;
  const ShiftedExp<T> shifted(top);
  scaled_row(row, n, scale, [&](Index i, V<T> x) {
    const V<T> e = shifted(x);
    sums.add(e);
    e.store(row + i);
  });
  const double total = sums.total();
  const V<T> factor(static_cast<T>(1 / total));
  for (Index i = 0; i < n; i += V<T>::N) (factor * V<T>::load(row + i)).store(row + i);
  clear_padding(row, n, end);
  return static_cast<T>(static_cast<double>(top) + std::log(total));
}

template <class T>
void exp_row(T* row, Index n, Index end, T scale, T lse) {
  if (lse == kNothing<T>) {
    for (Index i = 0; i < end; i += V<T>::N) V<T>(T(0)).store(row + i);
    return;
  }
  const ShiftedExp<T> shifted(lse);
  scaled_row(row, n, scale, [&](Index i, V<T> x) { shifted(x).store(row + i); });
  clear_padding(row, n, end);
}

template <class T>
void softmax_backward(const T* p, const T* dp, Index n, T delta, T scale, T* ds) {
  for_each_vector<T>(n, [&](Index i, auto count) {
    store<T>(V<T>(scale) * load<T>(p + i, count) * (load<T>(dp + i, count) - V<T>(delta)), ds + i, count);
  });
}

template <class T>
void prefetch_rows(const T* x, Index stride, Index rows, Index n) {
  constexpr Index kLine = 64 / sizeof(T);
  for (Index r = 0; r < rows; ++r)
    for (Index i = 0; i < n; i += kLine) prefetch_behind(x, r * stride + i);
}

template <class T>
bool finite_rows(const T* x, Index stride, Index rows, Index n) {
  V<T> probe(T(0));  // x - x is 0 for a finite x, NaN otherwise, and NaN stays in a sum
  for (Index r = 0; r < rows; ++r)
    for_each_vector<T>(n, [&](Index i, auto count) {
      const V<T> v = load<T>(x + r * stride + i, count);
      probe = probe + (v - v);
    });
  T lanes[V<T>::N];
  probe.store(lanes);
  for (T lane : lanes)
    if (!(lane == T(0))) return false;
  return true;
}

}  // namespace loopos::kernels::LOOPOS_ISA_NAME
