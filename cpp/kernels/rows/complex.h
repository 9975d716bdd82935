// Complex matrices as rows of real numbers. Squares of kTile numbers go through at once, so that what is read across
// stays in the first-level cache.
#pragma once

#include <cstring>

#include "kernels/isa/complex.h"

namespace loopos::kernels::LOOPOS_ISA_NAME {

constexpr Index kTile = 8;

template <class T>
inline T magnitude(T x) {
  return x < 0 ? -x : x;
}

/// Calls body(row, rows, column, columns) for squares of (m, n), of those at or below the diagonal where `below`.
template <class Body>
inline void each_tile(Index m, Index n, bool below, Body&& body) {
  for (Index i = 0; i < m; i += kTile)
    for (Index j = 0; j < (below ? i + 1 : n); j += kTile)
      body(i, m - i < kTile ? m - i : kTile, j, n - j < kTile ? n - j : kTile);
}

/// Row p of the complex b is two rows of out: b, and i b.
///   (x + iy)(u + iv) = x (u, v) + y (-v, u)
template <class T>
void expand(const T* b, Index stride, Stored how, Index k, Index n, T sign, T* out, Index out_stride) {
  if (how != Stored::adjoint) {
    const T conjugate = how == Stored::conjugate ? -sign : sign;
    for (Index p = 0; p < k; ++p) {
      const T* row = b + p * stride;
      T *first = out + 2 * p * out_stride, *second = first + out_stride;
      for (Index j = 0; j < n; ++j) {
        const T u = sign * row[2 * j], v = conjugate * row[2 * j + 1];
        first[2 * j] = u;
        first[2 * j + 1] = v;
        second[2 * j] = -v;
        second[2 * j + 1] = u;
      }
    }
    return;
  }
  each_tile(k, n, false, [&](Index p0, Index rows, Index j0, Index columns) {
    for (Index p = p0; p < p0 + rows; ++p) {
      T *first = out + 2 * p * out_stride, *second = first + out_stride;
      for (Index j = j0; j < j0 + columns; ++j) {
        const T u = sign * b[j * stride + 2 * p], v = -sign * b[j * stride + 2 * p + 1];
        first[2 * j] = u;
        first[2 * j + 1] = v;
        second[2 * j] = -v;
        second[2 * j + 1] = u;
      }
    }
  });
}

template <class T>
void transpose_complex(const T* a, Index stride, Index m, Index n, T factor, bool conjugate, T* out, Index out_stride) {
  const T imaginary = conjugate ? -factor : factor;
  each_tile(n, m, false, [&](Index i0, Index rows, Index j0, Index columns) {
    for (Index i = i0; i < i0 + rows; ++i)
      for (Index j = j0; j < j0 + columns; ++j) {
        out[i * out_stride + 2 * j] = factor * a[j * stride + 2 * i];
        out[i * out_stride + 2 * j + 1] = imaginary * a[j * stride + 2 * i + 1];
      }
  });
}

template <class T>
T lower(const T* a, Index stride, Index n, T factor, T* out, Index out_stride) {
  T worst = 0;
  each_tile(n, n, true, [&](Index i0, Index rows, Index j0, Index columns) {
    for (Index i = i0; i < i0 + rows; ++i) {
      const Index end = i + 1 < j0 + columns ? i + 1 : j0 + columns;
      for (Index j = j0; j < end; ++j) {
        const T x = a[i * stride + 2 * j], y = a[i * stride + 2 * j + 1];
        const T real = magnitude(x - a[j * stride + 2 * i]), imaginary = magnitude(y + a[j * stride + 2 * i + 1]);
        worst = real > worst ? real : worst;
        worst = imaginary > worst ? imaginary : worst;
        out[i * out_stride + 2 * j] = factor * x;
        out[i * out_stride + 2 * j + 1] = i == j ? T(0) : factor * y;
      }
    }
  });
  for (Index i = 0; i < n; ++i)
    std::memset(out + i * out_stride + 2 * (i + 1), 0, sizeof(T) * static_cast<std::size_t>(2 * (n - i - 1)));
  return worst;
}

template <class T>
void hermitian_sum(const T* a, Index stride, Index n, T factor, T* out, Index out_stride) {
  each_tile(n, n, true, [&](Index i0, Index rows, Index j0, Index columns) {
    for (Index i = i0; i < i0 + rows; ++i) {
      const Index end = i + 1 < j0 + columns ? i + 1 : j0 + columns;
      for (Index j = j0; j < end; ++j) {
        const T x = factor * a[i * stride + 2 * j] + factor * a[j * stride + 2 * i];
        const T y = factor * a[i * stride + 2 * j + 1] - factor * a[j * stride + 2 * i + 1];
        out[i * out_stride + 2 * j] = out[j * out_stride + 2 * i] = x;
        out[i * out_stride + 2 * j + 1] = y;
        out[j * out_stride + 2 * i + 1] = i == j ? T(0) : -y;
      }
    }
  });
}

template <class T>
void mirror(const T* a, Index stride, Index n, bool upper, T factor, T* out, Index out_stride) {
  const T imaginary = upper ? -factor : factor;
  each_tile(n, n, true, [&](Index i0, Index rows, Index j0, Index columns) {
    for (Index i = i0; i < i0 + rows; ++i) {
      const Index end = i + 1 < j0 + columns ? i + 1 : j0 + columns;
      for (Index j = j0; j < end; ++j) {
        const Index at = upper ? j * stride + 2 * i : i * stride + 2 * j;
        const T x = factor * a[at], y = i == j ? T(0) : imaginary * a[at + 1];
        out[i * out_stride + 2 * j] = out[j * out_stride + 2 * i] = x;
        out[i * out_stride + 2 * j + 1] = y;
        out[j * out_stride + 2 * i + 1] = -y;
      }
    }
  });
}

}  // namespace loopos::kernels::LOOPOS_ISA_NAME
