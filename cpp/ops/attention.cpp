#include "ops/attention.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>

#include "core/buffer.h"
#include "core/guards.h"
#include "core/thread_pool.h"
#include "kernels/gemm.h"
#include "ops/dropout.h"

namespace loopos {
namespace {

using kernels::gemm_serial;
using kernels::Trans;

/// Queries per tile, so that the scores of a tile stay in the second-level cache. Short sequences have smaller tiles,
/// so that causal ones skip more of what is hidden.
Index tile_rows(const AttentionShape& s) {
  return s.keys <= 128 ? 32 : std::clamp<Index>(65536 / s.keys, 16, 64);
}

/// One head's tile of queries [first, first + rows) against keys [0, keys), of which row i sees the first visible(i),
/// mask permitting.
struct Tile {
  const AttentionShape& shape;
  const AttentionOptions& options;
  Index b, h, first, rows, keys;

  Tile(const AttentionShape& s, const AttentionOptions& o, Index batch, Index head, Index tile)
      : shape(s),
        options(o),
        b(batch),
        h(head),
        first(tile * tile_rows(s)),
        rows(std::min(tile_rows(s), s.queries - first)) {
    keys = visible(rows - 1);
  }
  Index visible(Index i) const { return options.causal ? std::min(shape.keys, first + i + 1) : shape.keys; }
  const bool* mask_row(Index i) const {
    const AttentionMask& m = options.mask;
    return m.data ? m.data + b * m.batch + h * m.head + (first + i) * m.query : nullptr;
  }
  bool sees(Index i, Index s) const {
    const bool* row = mask_row(i);
    return s < visible(i) && (!row || row[s * options.mask.key]);
  }
  Index lse_at(Index i) const { return (b * shape.heads + h) * shape.queries + first + i; }

  /// row[s] = value for every key that query i may not see, up to the tile's last key.
  template <class T>
  void fill_hidden(Index i, T value, T* row) const {
    if (const bool* m = mask_row(i))
      for (Index s = 0; s < visible(i); ++s)
        if (!m[s * options.mask.key]) row[s] = value;
    std::fill(row + visible(i), row + keys, value);
  }

  /// row *= the dropout scales of query i.
  template <class T>
  void drop(Index i, T* row) const {
    struct Scales;
    T* scales = scratch<T, Scales>(keys);
    const auto offset = static_cast<std::uint64_t>(lse_at(i)) * static_cast<std::uint64_t>(shape.keys);
    dropout_scales(options.seed, offset, visible(i), options.dropout, scales);
    for (Index s = 0; s < visible(i); ++s) row[s] *= scales[s];
  }
};

template <class T>
void scores(const Tile& t, Heads<const T> q, Heads<const T> k, Index kv, T* s) {
  gemm_serial<T>(Trans::no, Trans::yes, t.rows, t.keys, t.shape.width, q.row(t.b, t.h, t.first), q.strides.time,
                 k.row(t.b, kv, 0), k.strides.time, s, t.keys, false);
  const auto& kernel = kernels::table<T>();
  for (Index i = 0; i < t.rows; ++i) {
    kernel.scale(s + i * t.keys, t.visible(i), static_cast<T>(t.options.scale), s + i * t.keys);
    t.fill_hidden(i, -std::numeric_limits<T>::infinity(), s + i * t.keys);
  }
}

template <class T>
bool all_finite(const Heads<T>& x, Index b, Index h, Index first, Index rows, Index width) {
  for (Index i = 0; i < rows; ++i)
    if (kernels::table<T>().first_nonfinite(x.row(b, h, first + i), width) < width) return false;
  return true;
}

/// out (rows of the tile) = p x over the visible keys alone.
template <class T>
void visible_rows_product(const Tile& t, const T* p, Heads<const T> x, Index kv, Index width, Heads<T> out) {
  for (Index i = 0; i < t.rows; ++i) {
    T* row = out.row(t.b, t.h, t.first + i);
    std::fill(row, row + width, T(0));
    for (Index s = 0; s < t.keys; ++s)
      if (t.sees(i, s)) kernels::table<T>().axpy(x.row(t.b, kv, s), width, p[i * t.keys + s], row);
  }
}

/// out (keys) += pᵀ x over the visible queries alone.
template <class T>
void visible_keys_product(const Tile& t, const T* p, Heads<const T> x, Index kv, Index width, Heads<T> out) {
  for (Index i = 0; i < t.rows; ++i)
    for (Index s = 0; s < t.keys; ++s)
      if (t.sees(i, s))
        kernels::table<T>().axpy(x.row(t.b, t.h, t.first + i), width, p[i * t.keys + s], out.row(t.b, kv, s));
}

struct ForwardScores;
struct Probabilities;
struct Gradients;
struct Dropped;

template <class T>
void forward_tile(const Tile& t, Heads<const T> q, Heads<const T> k, Heads<const T> v, Heads<T> y, T* lse) {
  const Index kv = t.h / (t.shape.heads / t.shape.kv_heads);
  const auto& kernel = kernels::table<T>();
  T* p = scratch<T, ForwardScores>(t.rows * t.keys);
  scores(t, q, k, kv, p);
  Index masked = 0;
  for (Index i = 0; i < t.rows; ++i) {
    T* row = p + i * t.keys;
    const Index n = t.visible(i);
    const T top = kernel.max(row, n);
    if (top == -std::numeric_limits<T>::infinity()) {
      std::fill(row, row + t.keys, T(0));
      lse[t.lse_at(i)] = top;
      ++masked;
      continue;
    }
    const double total = kernel.exp_sum(row, n, top, row);
    kernel.scale(row, n, static_cast<T>(1 / total), row);
    std::fill(row + n, row + t.keys, T(0));
    lse[t.lse_at(i)] = static_cast<T>(static_cast<double>(top) + std::log(total));
    if (t.options.dropout > 0) t.drop(i, row);
  }
  count_guard(Guard::attention, masked);
  gemm_serial<T>(Trans::no, Trans::no, t.rows, t.shape.value_width, t.keys, p, t.keys, v.row(t.b, kv, 0),
                 v.strides.time, y.row(t.b, t.h, t.first), y.strides.time, false);
  if (!all_finite(y, t.b, t.h, t.first, t.rows, t.shape.value_width))
    visible_rows_product(t, p, v, kv, t.shape.value_width, y);
}

/// Adds one tile's share to dk and dv and writes its dq. `careful`: every product over visible pairs alone.
template <class T>
void backward_tile(const Tile& t, bool careful, Heads<const T> dy, Heads<const T> q, Heads<const T> k, Heads<const T> v,
                   Heads<const T> y, const T* lse, Heads<T> dq, Heads<T> dk, Heads<T> dv) {
  const Index kv = t.h / (t.shape.heads / t.shape.kv_heads), width = t.shape.width, value_width = t.shape.value_width;
  const auto& kernel = kernels::table<T>();
  const bool dropping = t.options.dropout > 0;
  T* p = scratch<T, Probabilities>(t.rows * t.keys);
  T* dp = scratch<T, Gradients>(t.rows * t.keys);
  T* dropped = dropping ? scratch<T, Dropped>(t.rows * t.keys) : p;
  scores(t, q, k, kv, p);
  gemm_serial<T>(Trans::no, Trans::yes, t.rows, t.keys, value_width, dy.row(t.b, t.h, t.first), dy.strides.time,
                 v.row(t.b, kv, 0), v.strides.time, dp, t.keys, false);
  for (Index i = 0; i < t.rows; ++i) {
    T* row = p + i * t.keys;
    T* grad = dp + i * t.keys;
    const Index n = t.visible(i);
    const T norm = lse[t.lse_at(i)];
    if (norm == -std::numeric_limits<T>::infinity())
      std::fill(row, row + n, T(0));
    else
      kernel.exp_shifted(row, n, norm, T(1), row);
    std::fill(row + n, row + t.keys, T(0));
    if (dropping) {
      std::copy(row, row + t.keys, dropped + i * t.keys);
      t.drop(i, dropped + i * t.keys);
      t.drop(i, grad);
    }
    const T delta =
        static_cast<T>(kernel.dot(dy.row(t.b, t.h, t.first + i), y.row(t.b, t.h, t.first + i), value_width));
    kernel.softmax_backward(row, grad, n, delta, static_cast<T>(t.options.scale), grad);
    t.fill_hidden(i, T(0), grad);
  }
  if (careful) {
    visible_keys_product(t, dropped, dy, kv, value_width, dv);
    visible_keys_product(t, dp, q, kv, width, dk);
    visible_rows_product(t, dp, k, kv, width, dq);
    return;
  }
  gemm_serial<T>(Trans::yes, Trans::no, t.keys, value_width, t.rows, dropped, t.keys, dy.row(t.b, t.h, t.first),
                 dy.strides.time, dv.row(t.b, kv, 0), dv.strides.time, true);
  gemm_serial<T>(Trans::yes, Trans::no, t.keys, width, t.rows, dp, t.keys, q.row(t.b, t.h, t.first), q.strides.time,
                 dk.row(t.b, kv, 0), dk.strides.time, true);
  gemm_serial<T>(Trans::no, Trans::no, t.rows, width, t.keys, dp, t.keys, k.row(t.b, kv, 0), k.strides.time,
                 dq.row(t.b, t.h, t.first), dq.strides.time, false);
}

template <class T>
void clear_rows(Heads<T> x, Index b, Index h, Index rows, Index width) {
  for (Index i = 0; i < rows; ++i) std::fill(x.row(b, h, i), x.row(b, h, i) + width, T(0));
}

}  // namespace

template <class T>
void attention_forward(Heads<const T> q, Heads<const T> k, Heads<const T> v, const AttentionShape& shape,
                       const AttentionOptions& options, Heads<T> y, T* lse) {
  const Index rows = tile_rows(shape), tiles = (shape.queries + rows - 1) / rows;
  parallel_for(shape.batch * shape.heads * tiles, [&](Index task) {
    const Index head = task / tiles;
    forward_tile(Tile(shape, options, head / shape.heads, head % shape.heads, task % tiles), q, k, v, y, lse);
  });
}

template <class T>
void attention_backward(Heads<const T> dy, Heads<const T> q, Heads<const T> k, Heads<const T> v, Heads<const T> y,
                        const T* lse, const AttentionShape& shape, const AttentionOptions& options, Heads<T> dq,
                        Heads<T> dk, Heads<T> dv) {
  const Index rows = tile_rows(shape), tiles = (shape.queries + rows - 1) / rows,
              group = shape.heads / std::max<Index>(1, shape.kv_heads);
  // One task owns a key/value head: its dk and dv are summed over the group's heads and tiles in a fixed order.
  parallel_for(shape.batch * shape.kv_heads, [&](Index task) {
    const Index b = task / shape.kv_heads, kv = task % shape.kv_heads;
    const auto run = [&](bool careful) {
      clear_rows(dk, b, kv, shape.keys, shape.width);
      clear_rows(dv, b, kv, shape.keys, shape.value_width);
      bool finite = true;
      for (Index h = kv * group; h < (kv + 1) * group; ++h)
        for (Index tile = 0; tile < tiles; ++tile) {
          const Tile t(shape, options, b, h, tile);
          backward_tile(t, careful, dy, q, k, v, y, lse, dq, dk, dv);
          finite = finite && all_finite(dq, b, h, t.first, t.rows, shape.width);
        }
      return finite && all_finite(dk, b, kv, 0, shape.keys, shape.width) &&
             all_finite(dv, b, kv, 0, shape.keys, shape.value_width);
    };
    if (!run(false)) run(true);
  });
}

#define LOOPOS_INSTANTIATE(T)                                                                                      \
  template void attention_forward(Heads<const T>, Heads<const T>, Heads<const T>, const AttentionShape&,           \
                                  const AttentionOptions&, Heads<T>, T*);                                          \
  template void attention_backward(Heads<const T>, Heads<const T>, Heads<const T>, Heads<const T>, Heads<const T>, \
                                   const T*, const AttentionShape&, const AttentionOptions&, Heads<T>, Heads<T>,   \
                                   Heads<T>);
LOOPOS_INSTANTIATE(float)
LOOPOS_INSTANTIATE(double)

}  // namespace loopos
