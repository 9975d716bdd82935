// A Hermitian matrix A = Q T Q^H, T real tridiagonal, by Householder reflections from the last row up (LAPACK's zhetd2,
// upper): Q = H(n-1) ... H(1), H(k) = I - tau_k v_k v_k^H, v_k of length k and its last number 1. What a reflection does
// to the rest, A -= v w^H + w v^H, is done while the next one reads it: the matrix is walked once a reflection, not twice.
#pragma once

#include <cmath>

#include "kernels/isa/complex.h"
#include "kernels/rows/wide.h"

namespace loopos::kernels::LOOPOS_ISA_NAME {

/// A vector in two planes, zeros behind its numbers.
template <class T>
struct Split {
  T *re, *im;
};

/// The matrix: what is below its diagonal in two planes, zeros elsewhere; its diagonal apart.
template <class T>
struct Lower {
  T *re, *im, *diagonal;
  Index stride;
};

/// Lane j of the vector at `first` is 1 where column j lies below the diagonal of row i.
template <class T>
inline Wide<T> below(Index i, Index first) {
  constexpr int N = Wide<T>::N;
  alignas(kVectorBytes) static constexpr struct Window {
    T ones[N], zeros[N];
    constexpr Window() : ones(), zeros() {
      for (int k = 0; k < N; ++k) ones[k] = 1;
    }
  } window;
  const Index many = i - first < 0 ? 0 : i - first < N ? i - first : N;
  return Wide<T>::load(window.ones + N - many);
}

/// One row of a pair, of the update by (v, w) and the product with u.
template <class T>
struct RowOfPair {
  T *re, *im;
  Wide<T> v_re, v_im, w_re, w_im, u_re, u_im, sum_re, sum_im;

  RowOfPair(const Lower<T>& a, Index i, const Split<T>& v, const Split<T>& w, const Split<T>& u)
      : re(a.re + i * a.stride),
        im(a.im + i * a.stride),
        v_re(v.re[i]),
        v_im(v.im[i]),
        w_re(w.re[i]),
        w_im(w.im[i]),
        u_re(u.re[i]),
        u_im(u.im[i]),
        sum_re(T(0)),
        sum_im(T(0)) {}
};

/// The lanes of one row at column j: a -= v_i conj(w) + w_i conj(v), y_i += a u, y += conj(a) u_i.
template <class T, bool kMasked>
inline void walk_vector(RowOfPair<T>& row, Index i, Index j, Wide<T> v_re, Wide<T> v_im, Wide<T> w_re, Wide<T> w_im,
                        Wide<T> u_re, Wide<T> u_im, Wide<T>& y_re, Wide<T>& y_im) {
  using W = Wide<T>;
  W re = W::load(row.re + j), im = W::load(row.im + j);
  re = minus_product(row.v_re, w_re, re);
  im = minus_product(row.v_im, w_re, im);
  re = minus_product(row.v_im, w_im, re);
  im = fma(row.v_re, w_im, im);
  re = minus_product(row.w_re, v_re, re);
  im = minus_product(row.w_im, v_re, im);
  re = minus_product(row.w_im, v_im, re);
  im = fma(row.w_re, v_im, im);
  if constexpr (kMasked) {
    const W inside = below<T>(i, j);
    re = re * inside;
    im = im * inside;
  }
  re.store(row.re + j);
  im.store(row.im + j);
  row.sum_re = fma(re, u_re, row.sum_re);
  row.sum_im = fma(re, u_im, row.sum_im);
  y_re = fma(re, row.u_re, y_re);
  y_im = fma(re, row.u_im, y_im);
  row.sum_re = minus_product(im, u_im, row.sum_re);
  row.sum_im = fma(im, u_re, row.sum_im);
  y_re = fma(im, row.u_im, y_re);
  y_im = minus_product(im, row.u_re, y_im);
}

/// Rows 0 to m - 1 of a, m <= n - 1: the update by v and w, and y = A u, where u is 0 from m on. Row m is changed, too.
/// across: memory for a row.
template <class T>
inline void update_and_multiply(const Lower<T>& a, Index m, const Split<T>& v, const Split<T>& w, const Split<T>& u,
                                const Split<T>& y, const Split<T>& across) {
  using W = Wide<T>;
  constexpr int N = W::N;
  for (Index j = 0; j < m; j += N) {
    const W v_re = W::load(v.re + j), v_im = W::load(v.im + j), w_re = W::load(w.re + j), w_im = W::load(w.im + j);
    const W diagonal = fma(W(T(-2)), fma(v_re, w_re, v_im * w_im), W::load(a.diagonal + j));
    diagonal.store(a.diagonal + j);
    (diagonal * W::load(u.re + j)).store(y.re + j);
    (diagonal * W::load(u.im + j)).store(y.im + j);
  }
  for (Index i = 0; i < m; i += 2) {
    RowOfPair<T> first(a, i, v, w, u), second(a, i + 1, v, w, u);
    const auto step = [&](Index j, auto masked) {
      const W v_re = W::load(v.re + j), v_im = W::load(v.im + j), w_re = W::load(w.re + j), w_im = W::load(w.im + j),
              u_re = W::load(u.re + j), u_im = W::load(u.im + j);
      W y_re = W::load(y.re + j), y_im = W::load(y.im + j);
      walk_vector<T, decltype(masked)::value>(first, i, j, v_re, v_im, w_re, w_im, u_re, u_im, y_re, y_im);
      walk_vector<T, decltype(masked)::value>(second, i + 1, j, v_re, v_im, w_re, w_im, u_re, u_im, y_re, y_im);
      y_re.store(y.re + j);
      y_im.store(y.im + j);
    };
    Index j = 0;
    for (; j + N <= i; j += N) step(j, std::false_type{});
    step(j, std::true_type{});
    T sums[4];
    sum_lanes<T>(first.sum_re, second.sum_re, first.sum_im, second.sum_im, sums);
    for (int k = 0; k < 2; ++k) {  // apart from y, which the next rows read in whole vectors
      across.re[i + k] = sums[k];
      across.im[i + k] = sums[2 + k];
    }
  }
  for (Index j = 0; j < m; ++j) {
    y.re[j] += across.re[j];
    y.im[j] += across.im[j];
  }
}

/// x (m numbers, the last is alpha) becomes v with H^H x = (0, ..., 0, beta), beta real; 0 is left as it is, with tau 0.
template <class T>
inline T reflect(const Split<T>& x, Index m, T* tau_re, T* tau_im) {
  constexpr double tiny = sizeof(T) == 4 ? 1e-60 : 1e-240;  // of a square: what is beside numbers near 1 nothing
  double tail = 0;
  for (Index j = 0; j < m - 1; ++j) {
    const double re = static_cast<double>(x.re[j]), im = static_cast<double>(x.im[j]);
    tail += re * re + im * im;
  }
  const double re = static_cast<double>(x.re[m - 1]), im = static_cast<double>(x.im[m - 1]);
  x.re[m - 1] = 1;
  x.im[m - 1] = 0;
  if (tail + im * im <= tiny) {
    *tau_re = *tau_im = 0;
    for (Index j = 0; j < m - 1; ++j) x.re[j] = x.im[j] = 0;
    return static_cast<T>(re);
  }
  const double norm = std::sqrt(tail + re * re + im * im), beta = re < 0 ? norm : -norm;
  *tau_re = static_cast<T>((beta - re) / beta);
  *tau_im = static_cast<T>(-im / beta);
  const double off = re - beta, square = off * off + im * im;
  const T by_re = static_cast<T>(off / square), by_im = static_cast<T>(-im / square);
  for (Index j = 0; j < m - 1; ++j) {
    const T a = x.re[j], b = x.im[j];
    x.re[j] = by_re * a - by_im * b;
    x.im[j] = by_re * b + by_im * a;
  }
  return static_cast<T>(beta);
}

/// w = tau y - (tau / 2) (conj(tau y) . v) v
template <class T>
inline void second_vector(const Split<T>& y, const Split<T>& v, Index m, T tau_re, T tau_im, const Split<T>& w) {
  double dot_re = 0, dot_im = 0;
  T sum_re[16] = {}, sum_im[16] = {};
  for (Index j = 0; j < m; j += 16)
    for (Index k = 0; k < 16; ++k) {
      const T re = tau_re * y.re[j + k] - tau_im * y.im[j + k], im = tau_re * y.im[j + k] + tau_im * y.re[j + k];
      w.re[j + k] = re;
      w.im[j + k] = im;
      sum_re[k] += re * v.re[j + k] + im * v.im[j + k];
      sum_im[k] += re * v.im[j + k] - im * v.re[j + k];
    }
  for (int k = 0; k < 16; ++k) {
    dot_re += static_cast<double>(sum_re[k]);
    dot_im += static_cast<double>(sum_im[k]);
  }
  const double a = static_cast<double>(tau_re), b = static_cast<double>(tau_im);
  const T by_re = static_cast<T>(-0.5 * (a * dot_re - b * dot_im)),
          by_im = static_cast<T>(-0.5 * (a * dot_im + b * dot_re));
  for (Index j = 0; j < m; ++j) {
    w.re[j] += by_re * v.re[j] - by_im * v.im[j];
    w.im[j] += by_re * v.im[j] + by_im * v.re[j];
  }
}

/// a: the lower triangle (n, n), n >= 1. d (n) and e (n - 1) are those of T. Row k of v (n, n) is v_k and zeros, row 0 zeros;
/// tau (n) complex, that of row 0 is 0. Rows of a and v are `stride` numbers apart. memory: tridiagonalize_memory(n), of
/// any content.
template <class T>
void tridiagonalize(const T* a, Index stride, Index n, T* d, T* e, T* v, T* tau, T* memory) {
  const Index row = vector_stride(n);
  const auto taken = [&](Index rows) {
    T* here = memory;
    memory += rows * row;
    return here;
  };
  const Lower<T> lower{taken(n), taken(n), taken(1), row};
  Split<T> u{taken(1), taken(1)}, old{taken(1), taken(1)};
  const Split<T> w{taken(1), taken(1)}, y{taken(1), taken(1)}, across{taken(1), taken(1)};
  for (Index i = 0; i < n; ++i) {
    T *re = lower.re + i * row, *im = lower.im + i * row;
    for (Index j = 0; j < i; ++j) {
      re[j] = a[i * stride + 2 * j];
      im[j] = a[i * stride + 2 * j + 1];
    }
    for (Index j = i; j < row; ++j) re[j] = im[j] = 0;
    lower.diagonal[i] = a[i * stride + 2 * i];
  }
  for (Index j = n; j < row; ++j) lower.diagonal[j] = 0;  // whole vectors are read: a NaN there would go into every sum
  for (Index j = 0; j < row; ++j) old.re[j] = old.im[j] = w.re[j] = w.im[j] = y.re[j] = y.im[j] = 0;
  for (Index j = 0; j < 2 * n; ++j) v[j] = 0;
  tau[0] = tau[1] = 0;
  for (Index k = n - 1; k > 0; --k) {
    const T *re = lower.re + k * row, *im = lower.im + k * row;
    const T v_re = old.re[k], v_im = old.im[k], w_re = w.re[k], w_im = w.im[k];
    d[k] = lower.diagonal[k] - 2 * (v_re * w_re + v_im * w_im);
    for (Index j = 0; j < k; ++j) {  // the conjugate of row k
      u.re[j] = re[j] - (v_re * w.re[j] + v_im * w.im[j]) - (w_re * old.re[j] + w_im * old.im[j]);
      u.im[j] = (v_im * w.re[j] - v_re * w.im[j]) + (w_im * old.re[j] - w_re * old.im[j]) - im[j];
    }
    for (Index j = k; j < row; ++j) u.re[j] = u.im[j] = 0;
    T* by = tau + 2 * k;
    e[k - 1] = reflect(u, k, by, by + 1);
    T* out = v + k * stride;
    for (Index j = 0; j < n; ++j) {
      out[2 * j] = u.re[j];
      out[2 * j + 1] = u.im[j];
    }
    update_and_multiply(lower, k, old, w, u, y, across);
    second_vector(y, u, k, by[0], by[1], w);
    const Split<T> next = old;
    old = u;
    u = next;
  }
  d[0] = lower.diagonal[0] - 2 * (old.re[0] * w.re[0] + old.im[0] * w.im[0]);
}

}  // namespace loopos::kernels::LOOPOS_ISA_NAME
