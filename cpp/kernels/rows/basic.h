// Row kernels of the softmax family and plain vectors; see table.h for what each does.
#pragma once

#include <limits>

#include "kernels/isa/vecmath.h"

namespace loopos::kernels::LOOPOS_ISA_NAME {

template <class T>
constexpr T kNothing = -std::numeric_limits<T>::infinity();

/// Prefetches what lies `numbers` behind p, to be read or to be written. That may be beyond the end of the array, where
/// C++ has no pointers: so it is computed as an address.
template <class T, int WRITE = 0>
inline void prefetch_behind(const T* p, Index numbers) {
  const auto ahead = static_cast<std::uintptr_t>(numbers) * sizeof(T);
  __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<std::uintptr_t>(p) + ahead), WRITE);
}
/// For kernels that arrays pass through from memory, or from another core's cache: on its own the processor asks for too
/// little at a time.
template <class T, int WRITE = 0>
inline void prefetch_ahead(const T* p) {
  prefetch_behind<T, WRITE>(p, WRITE ? 256 : 512);
}

template <class T>
T row_max(const T* x, Index n) {
  constexpr T lowest = kNothing<T>;
  constexpr int kParts = 4;  // independent maxima: one alone would wait for its own last comparison
  V<T> m[kParts] = {lowest, lowest, lowest, lowest};
  Index i = 0;
  for (; i + kParts * V<T>::N <= n; i += kParts * V<T>::N)
    for (int part = 0; part < kParts; ++part) {
      const V<T> v = V<T>::load(x + i + part * V<T>::N);
      m[part] = select(v > m[part], v, m[part]);
    }
  for (; i < n; i += V<T>::N) {
    const V<T> v = load_filled<T>(x + i, static_cast<int>(n - i < V<T>::N ? n - i : V<T>::N), lowest);
    m[0] = select(v > m[0], v, m[0]);
  }
  for (int part = 1; part < kParts; ++part) m[0] = select(m[part] > m[0], m[part], m[0]);
  const T best = max_lane(m[0]);
  // Comparisons pass over NaN. Where a number remains, the NaN reaches the sum; where none does, it must not pass for a
  // masked row.
  if (best == lowest)
    for (i = 0; i < n; ++i)
      if (x[i] != x[i]) return x[i];
  return best;
}

/// e^(x - shift). Where that is 0 anyway the difference is not formed: for a large x of the other sign it would
/// overflow and raise a flag.
template <class T>
struct ShiftedExp {
  static constexpr T kBound = sizeof(T) == 4 ? 120 : 800;  // e^-bound = 0
  V<T> shift, floor;
  explicit ShiftedExp(T s)
      : shift(s), floor(s - kBound) {}  // floor may round to shift: any x below is then further off than the bound
  V<T> operator()(V<T> x) const {
    const auto vanishes = x < floor;
    return exp(select(vanishes, V<T>(-kBound), select(vanishes, shift, x) - shift));
  }
};

template <class T, bool kStore>
double exp_sum(const T* x, Index n, T shift, T* y) {
  WideSum<T> total;
  const ShiftedExp<T> shifted(shift);
  for_each_vector<T>(n, [&](Index i, auto count) {
    const V<T> e = shifted(load_filled<T>(x + i, count, kNothing<T>));  // e^-inf = 0 adds nothing
    total.add(e);
    if (kStore) store<T>(e, y + i, count);
  });
  return total.total();
}

template <class T>
double exp_sum_store(const T* x, Index n, T shift, T* y) {
  return exp_sum<T, true>(x, n, shift, y);
}

template <class T>
double exp_sum_only(const T* x, Index n, T shift) {
  return exp_sum<T, false>(x, n, shift, nullptr);
}

template <class T>
void add(const T* a, const T* b, Index n, T* y) {
  for_each_vector<T>(
      n, [&](Index i, auto count) { store<T>(load<T>(a + i, count) + load<T>(b + i, count), y + i, count); });
}

template <class T>
void scale(const T* x, Index n, T factor, T* y) {
  for_each_vector<T>(n, [&](Index i, auto count) { store<T>(V<T>(factor) * load<T>(x + i, count), y + i, count); });
}

template <class T>
void axpy(const T* x, Index n, T factor, T* y) {
  for_each_vector<T>(n, [&](Index i, auto count) {
    store<T>(fma(V<T>(factor), load<T>(x + i, count), load<T>(y + i, count)), y + i, count);
  });
}

template <class T>
void blend(const T* x, T a, const T* y, T b, Index n, T* out) {
  for_each_vector<T>(n, [&](Index i, auto count) {
    store<T>(fma(V<T>(a), load<T>(x + i, count), V<T>(b) * load<T>(y + i, count)), out + i, count);
  });
}

template <class T>
void sign(const T* x, Index n, T* y) {
  for_each_vector<T>(n, [&](Index i, auto count) {
    const V<T> v = load<T>(x + i, count), zero(T(0));
    store<T>(select(v > zero, V<T>(T(1)), select(v < zero, V<T>(T(-1)), v)), y + i, count);
  });
}

template <class T>
double dot(const T* a, const T* b, Index n) {
  WideSum<T> total;
  for_each_vector<T>(n, [&](Index i, auto count) { total.add_product(load<T>(a + i, count), load<T>(b + i, count)); });
  return total.total();
}

template <class T>
double sum(const T* x, Index n) {
  WideSum<T> total;
  for_each_vector<T>(n, [&](Index i, auto count) { add_to<T>(total, x + i, count); });
  return total.total();
}

template <class T>
double sum_squares(const T* x, Index n) {
  WideSum<T> total;
  for_each_vector<T>(n, [&](Index i, auto count) {
    prefetch_ahead(x + i);
    add_square_to<T>(total, x + i, count);
  });
  return total.total();
}

/// As whole numbers, the bits of magnitudes are in the order of the magnitudes, inf above every number and NaN above
/// inf. So one pass of integer comparisons (which a compiler may reorder, and does, into vectors) finds the largest and
/// cannot pass over a NaN.
template <class T>
T max_abs(const T* x, Index n) {
  using Bits = std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>;
  Bits top = 0;
  for (Index i = 0; i < n; ++i) {
    Bits bits;
    std::memcpy(&bits, x + i, sizeof bits);
    bits &= std::numeric_limits<Bits>::max();
    top = bits > top ? bits : top;
  }
  T result;
  std::memcpy(&result, &top, sizeof result);
  return result;
}

template <class T>
Index first_nonfinite(const T* x, Index n) {
  constexpr Index kBlock = 256;
  for (Index start = 0; start < n; start += kBlock) {
    const Index end = start + kBlock < n ? start + kBlock : n;
    V<T> probe(T(0));  // x - x is 0 for a finite x, NaN otherwise, and NaN stays in a sum
    for_each_vector<T>(end - start, [&](Index i, auto count) {
      const V<T> v = load<T>(x + start + i, count);
      probe = probe + (v - v);
    });
    T lanes[V<T>::N];
    probe.store(lanes);
    bool clean = true;
    for (T lane : lanes) clean = clean && lane == T(0);
    if (clean) continue;
    for (Index i = start; i < end; ++i)
      if (!(x[i] - x[i] == T(0))) return i;
  }
  return n;
}

}  // namespace loopos::kernels::LOOPOS_ISA_NAME
