// Complex matrices as rows of real numbers, a tile at a time.
#pragma once

#include <cstring>

#include "kernels/rows/complex_tile.h"

namespace loopos::kernels::LOOPOS_ISA_NAME {

template <class T>
inline T magnitude(T x) {
  return x < 0 ? -x : x;
}

/// Calls body(row, rows, column, columns) for tiles of (m, n), of those at or below the diagonal where `below`.
template <class Body>
inline void each_tile(Index m, Index n, bool below, Body&& body) {
  for (Index i = 0; i < m; i += kTile)
    for (Index j = 0; j < (below ? i + 1 : n); j += kTile)
      body(i, m - i < kTile ? m - i : kTile, j, n - j < kTile ? n - j : kTile);
}

/// Row p of the complex b is two rows of out: b, and i b.
///   (x + iy)(u + iv) = x (u, v) + y (-v, u)
template <class T>
inline void expand_row(const T* row, Index n, T sign, T conjugate, T* first, T* second) {
  for (Index j = 0; j < n; ++j) {
    const T u = sign * row[2 * j], v = conjugate * row[2 * j + 1];
    first[2 * j] = u;
    first[2 * j + 1] = v;
    second[2 * j] = -v;
    second[2 * j + 1] = u;
  }
}

template <class T>
void expand(const T* b, Index stride, Stored how, Index k, Index n, T sign, T* out, Index out_stride) {
  const T conjugate = how == Stored::plain ? sign : -sign;
  if (how != Stored::adjoint) {
    for (Index p = 0; p < k; ++p) {
      T* first = out + 2 * p * out_stride;
      expand_row(b + p * stride, n, sign, conjugate, first, first + out_stride);
    }
    return;
  }
  each_tile(k, n, false, [&](Index p, Index rows, Index j, Index columns) {
    T tile[2 * kTile * kTile];
    transpose_tile(b + j * stride + 2 * p, stride, rows, columns, tile);
    for (Index r = 0; r < rows; ++r) {
      T *first = out + 2 * (p + r) * out_stride + 2 * j, *second = first + out_stride;
      if (columns == kTile)
        expand_row(tile + 2 * r * kTile, kTile, sign, conjugate, first, second);
      else
        expand_row(tile + 2 * r * kTile, columns, sign, conjugate, first, second);
    }
  });
}

template <class T>
void transpose_complex(const T* a, Index stride, Index m, Index n, T factor, bool conjugate, T* out, Index out_stride) {
  const T imaginary = conjugate ? -factor : factor;
  each_tile(n, m, false, [&](Index i, Index rows, Index j, Index columns) {
    T tile[2 * kTile * kTile];
    transpose_tile(a + j * stride + 2 * i, stride, rows, columns, tile);
    for (Index r = 0; r < rows; ++r) {
      T* row = out + (i + r) * out_stride + 2 * j;
      for (Index c = 0; c < columns; ++c) {
        row[2 * c] = factor * tile[2 * (r * kTile + c)];
        row[2 * c + 1] = imaginary * tile[2 * (r * kTile + c) + 1];
      }
    }
  });
}

/// Lower triangle of the tile at (i, i), and the largest |part| of it less its adjoint.
template <class T>
inline T lower_diagonal(const T* a, Index stride, Index rows, T factor, T* out, Index out_stride) {
  T worst = 0;
  for (Index r = 0; r < rows; ++r)
    for (Index c = 0; c <= r; ++c) {
      const T x = a[r * stride + 2 * c], y = a[r * stride + 2 * c + 1];
      const T real = magnitude(x - a[c * stride + 2 * r]), imaginary = magnitude(y + a[c * stride + 2 * r + 1]);
      worst = real > worst ? real : worst;
      worst = imaginary > worst ? imaginary : worst;
      out[r * out_stride + 2 * c] = factor * x;
      out[r * out_stride + 2 * c + 1] = r == c ? T(0) : factor * y;
    }
  return worst;
}

template <class T>
T lower(const T* a, Index stride, Index n, T factor, T* out, Index out_stride) {
  T off[2 * kTile] = {}, worst = 0;  // of each place in a tile's row
  each_tile(n, n, true, [&](Index i, Index rows, Index j, Index columns) {
    if (i == j) {
      const T here =
          lower_diagonal(a + i * stride + 2 * i, stride, rows, factor, out + i * out_stride + 2 * i, out_stride);
      worst = here > worst ? here : worst;
      return;
    }
    T tile[2 * kTile * kTile];
    transpose_tile(a + j * stride + 2 * i, stride, rows, columns, tile);  // left of the diagonal a tile has all columns
    for (Index r = 0; r < rows; ++r) {
      const T *row = a + (i + r) * stride + 2 * j, *across = tile + 2 * r * kTile;
      T* to = out + (i + r) * out_stride + 2 * j;
      for (Index c = 0; c < 2 * kTile; ++c) {
        const T difference = magnitude(c & 1 ? row[c] + across[c] : row[c] - across[c]);
        off[c] = difference > off[c] ? difference : off[c];
        to[c] = factor * row[c];
      }
    }
  });
  for (Index i = 0; i < n; ++i)
    std::memset(out + i * out_stride + 2 * (i + 1), 0, sizeof(T) * static_cast<std::size_t>(2 * (n - i - 1)));
  for (T each : off) worst = each > worst ? each : worst;
  return worst;
}

/// Writes a tile of a Hermitian result below the diagonal, and its adjoint above.
template <class T>
inline void store_both(const T* tile, Index i, Index rows, Index j, Index columns, T* out, Index out_stride) {
  T across[2 * kTile * kTile];
  transpose_tile(tile, 2 * kTile, columns, rows, across);
  for (Index r = 0; r < rows; ++r)
    std::memcpy(out + (i + r) * out_stride + 2 * j, tile + 2 * r * kTile,
                sizeof(T) * 2 * static_cast<std::size_t>(columns));
  for (Index c = 0; c < columns; ++c) {
    T* row = out + (j + c) * out_stride + 2 * i;
    for (Index r = 0; r < rows; ++r) {
      row[2 * r] = across[2 * (c * kTile + r)];
      row[2 * r + 1] = -across[2 * (c * kTile + r) + 1];
    }
  }
}

template <class T>
void hermitian_sum(const T* a, Index stride, Index n, T factor, T* out, Index out_stride) {
  each_tile(n, n, true, [&](Index i, Index rows, Index j, Index columns) {
    if (i == j) {
      for (Index r = i; r < i + rows; ++r)
        for (Index c = j; c <= r; ++c) {
          const T x = factor * a[r * stride + 2 * c] + factor * a[c * stride + 2 * r];
          const T y = factor * a[r * stride + 2 * c + 1] - factor * a[c * stride + 2 * r + 1];
          out[r * out_stride + 2 * c] = out[c * out_stride + 2 * r] = x;
          out[c * out_stride + 2 * r + 1] = -y;
          out[r * out_stride + 2 * c + 1] = y;
        }
      return;
    }
    T tile[2 * kTile * kTile];
    transpose_tile(a + j * stride + 2 * i, stride, rows, columns, tile);
    for (Index r = 0; r < rows; ++r) {
      const T* row = a + (i + r) * stride + 2 * j;
      T* sum = tile + 2 * r * kTile;
      for (Index c = 0; c < 2 * kTile; ++c)
        sum[c] = c & 1 ? factor * row[c] - factor * sum[c] : factor * row[c] + factor * sum[c];
    }
    store_both(tile, i, rows, j, columns, out, out_stride);
  });
}

template <class T>
void mirror(const T* a, Index stride, Index n, bool upper, T factor, T* out, Index out_stride) {
  const T imaginary = upper ? -factor : factor;
  each_tile(n, n, true, [&](Index i, Index rows, Index j, Index columns) {
    if (i == j) {
      for (Index r = i; r < i + rows; ++r)
        for (Index c = j; c <= r; ++c) {
          const Index at = upper ? c * stride + 2 * r : r * stride + 2 * c;
          const T x = factor * a[at], y = r == c ? T(0) : imaginary * a[at + 1];
          out[r * out_stride + 2 * c] = out[c * out_stride + 2 * r] = x;
          out[r * out_stride + 2 * c + 1] = y;
          out[c * out_stride + 2 * r + 1] = r == c ? T(0) : -y;
        }
      return;
    }
    T tile[2 * kTile * kTile] = {};
    if (upper)
      transpose_tile(a + j * stride + 2 * i, stride, rows, columns, tile);
    else
      for (Index r = 0; r < rows; ++r)
        std::memcpy(tile + 2 * r * kTile, a + (i + r) * stride + 2 * j, sizeof(T) * 2 * kTile);
    for (Index r = 0; r < rows; ++r)
      for (Index c = 0; c < 2 * kTile; ++c) tile[2 * r * kTile + c] *= c & 1 ? imaginary : factor;
    store_both(tile, i, rows, j, columns, out, out_stride);
  });
}

}  // namespace loopos::kernels::LOOPOS_ISA_NAME
