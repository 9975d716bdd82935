// Row kernels of layer norm and rms norm, sums over columns, and rotations; see table.h for what each does.
#pragma once

#include "kernels/isa/table.h"
#include "kernels/rows/basic.h"

namespace loopos::kernels::LOOPOS_ISA_NAME {

/// x - mean with the mean in two parts: the first difference is exact where x and the mean are close (Sterbenz), so the
/// mean's own rounding never shows.
template <class T>
struct Centre {
  V<T> high, low;
  explicit Centre(const RowMean<T>& mean) : high(mean.high), low(mean.low) {}
  V<T> operator()(V<T> x) const { return (x - high) - low; }
};

/// Lanes beyond the row's end set to zero, where a centred zero would count as -mean.
template <class T>
inline V<T> first_lanes(V<T> x, std::integral_constant<int, V<T>::N>) {
  return x;
}
template <class T>
inline V<T> first_lanes(V<T> x, int n) {
  T lanes[V<T>::N];
  x.store(lanes);
  return V<T>::load(lanes, n);
}

/// body(offset of the row, its number, vector, count) for every vector of ROWS rows, row by row in turns: a sum waits
/// for its own last addition, and the sums of the other rows fill the time.
template <class T, int ROWS, class Body>
inline void for_each_vector_in_turns(Index n, Body&& body) {
  for_each_vector<T>(n, [&](Index i, auto count) {
#pragma GCC unroll 4
    for (int r = 0; r < ROWS; ++r) body(r, r * n + i, count);
  });
}

/// The mean of floats is summed in double and split. That of doubles is rounded, and the mean of what is left over is
/// its second part: a row of equal numbers has deviations of zero, however large they are.
template <class T, int ROWS>
inline void means_of(const T* x, Index n, RowMean<T>* means) {
  WideSum<T> total[ROWS];
  for_each_vector_in_turns<T, ROWS>(n, [&](int r, Index i, auto count) { add_to<T>(total[r], x + i, count); });
  for (int r = 0; r < ROWS; ++r) {
    const double mean = total[r].total() / static_cast<double>(n);
    means[r].high = static_cast<T>(mean);
    means[r].low = static_cast<T>(mean - static_cast<double>(means[r].high));
  }
  if constexpr (sizeof(T) == sizeof(double))
    for (int r = 0; r < ROWS; ++r) {
      T rest = 0;
      for (Index i = 0; i < n; ++i) rest += x[r * n + i] - means[r].high;
      means[r].low = rest / static_cast<T>(n);
    }
}

template <class T, int ROWS>
inline void stats_of(const T* x, Index n, RowMean<T>* means, double* squares) {
  means_of<T, ROWS>(x, n, means);
  WideSum<T> total[ROWS];
  for_each_vector_in_turns<T, ROWS>(n, [&](int r, Index i, auto count) {
    const V<T> d = first_lanes<T>(Centre<T>(means[r])(load<T>(x + i, count)), count);
    total[r].add_product(d, d);
  });
  for (int r = 0; r < ROWS; ++r) squares[r] = total[r].total();
}

template <class T>
void norm_means(const T* x, Index rows, Index n, RowMean<T>* means) {
  if (rows == kNormRows) return means_of<T, kNormRows>(x, n, means);
  for (Index r = 0; r < rows; ++r) means_of<T, 1>(x + r * n, n, means + r);
}

template <class T>
void norm_stats(const T* x, Index rows, Index n, RowMean<T>* means, double* squares) {
  if (rows == kNormRows) return stats_of<T, kNormRows>(x, n, means, squares);
  for (Index r = 0; r < rows; ++r) stats_of<T, 1>(x + r * n, n, means + r, squares + r);
}

template <class T>
void norm_apply(const T* x, const T* weight, const T* bias, Index n, RowMean<T> mean, T rstd, T* y) {
  const Centre<T> centred(mean);
  for_each_vector<T>(n, [&](Index i, auto count) {
    V<T> v = centred(load<T>(x + i, count)) * V<T>(rstd);
    if (weight && bias)
      v = fma(v, load<T>(weight + i, count), load<T>(bias + i, count));
    else if (weight)
      v = v * load<T>(weight + i, count);
    else if (bias)
      v = v + load<T>(bias + i, count);
    store<T>(v, y + i, count);
  });
}

template <class T>
void norm_grad_sums(const T* dy, const T* x, const T* weight, Index n, RowMean<T> mean, double* sum_g, double* sum_gx) {
  const Centre<T> centred(mean);
  WideSum<T> g_total, gx_total;
  for_each_vector<T>(n, [&](Index i, auto count) {
    V<T> g = load<T>(dy + i, count);
    if (weight) g = g * load<T>(weight + i, count);
    g_total.add(g);
    gx_total.add_product(g, centred(load<T>(x + i, count)));  // g is zero beyond the row's end
  });
  *sum_g = g_total.total();
  *sum_gx = gx_total.total();
}

template <class T>
void norm_grad_apply(const T* dy, const T* x, const T* weight, Index n, const NormGrad<T>& s, const T* dskip, T* dx,
                     T* dweight, T* dbias) {
  const Centre<T> centred(s.mean);
  const V<T> rstd(s.rstd), mean_g(s.mean_g), mean_gx(s.mean_gx);
  for_each_vector<T>(n, [&](Index i, auto count) {
    const V<T> d = load<T>(dy + i, count), xhat = centred(load<T>(x + i, count)) * rstd;
    if (dx) {
      const V<T> g = weight ? d * load<T>(weight + i, count) : d;
      const V<T> r = (g - mean_g) - xhat * mean_gx;
      store<T>(dskip ? fma(rstd, r, load<T>(dskip + i, count)) : rstd * r, dx + i, count);
    }
    if (dweight) store<T>(fma(d, xhat, load<T>(dweight + i, count)), dweight + i, count);
    if (dbias) store<T>(d + load<T>(dbias + i, count), dbias + i, count);
  });
}

/// The lanes of a WideSum, one double per column.
inline void lanes(const WideSum<float>& w, double* out) {
#if defined(__AVX512F__)
  _mm512_storeu_pd(out, w.lo);
  _mm512_storeu_pd(out + 8, w.hi);
#elif defined(__AVX2__)
  _mm256_storeu_pd(out, w.lo);
  _mm256_storeu_pd(out + 4, w.hi);
#else
  for (int i = 0; i < 4; ++i) out[i] = w.x[i];
#endif
}
inline void lanes(const WideSum<double>& w, double* out) {
  *out = w.s;
}

/// Sums over rows with the sums of four vectors of columns in registers. So little of a row is read at a time that the
/// processor does not see what comes next: it is prefetched. Row r is `step` indices after row r - 1 in `order` (null: r
/// itself).
template <class T>
void column_sums(const T* x, Index stride, const Index* order, Index step, Index rows, Index n, double* sums) {
  constexpr int N = V<T>::N, kTile = 4, kAhead = 12;  // rows
  const auto row = [&](Index r) { return x + (order ? order[r * step] : r) * stride; };
  Index c = 0;
  for (; c + kTile * N <= n; c += kTile * N) {
    WideSum<T> w[kTile];
    for (Index r = 0; r < rows; ++r)
      for (int j = 0; j < kTile; ++j) {
        if (!order) prefetch_behind(row(r) + c + j * N, kAhead * stride);
        w[j].add(V<T>::load(row(r) + c + j * N));
      }
    for (int j = 0; j < kTile; ++j) lanes(w[j], sums + c + j * N);
  }
  for (; c < n; c += N) {
    const int width = n - c < N ? static_cast<int>(n - c) : N;
    WideSum<T> w;
    for (Index r = 0; r < rows; ++r) w.add(V<T>::load(row(r) + c, width));
    double all[N];
    lanes(w, all);
    for (int i = 0; i < width; ++i) sums[c + i] = all[i];
  }
}

/// All four numbers are read before two are written, so y may be x.
template <class T>
void rotate(const T* x1, const T* x2, const T* cosine, const T* sine, T sign, Index n, T* y1, T* y2) {
  for_each_vector<T>(n, [&](Index i, auto count) {
    const V<T> a = load<T>(x1 + i, count), b = load<T>(x2 + i, count);
    const V<T> c = load<T>(cosine + i, count), s = V<T>(sign) * load<T>(sine + i, count);
    store<T>(fma(a, c, -(b * s)), y1 + i, count);
    store<T>(fma(b, c, a * s), y2 + i, count);
  });
}

}  // namespace loopos::kernels::LOOPOS_ISA_NAME
