#include "ops/attention.h"

#include <atomic>
#include <cmath>

#include "core/thread_pool.h"
#include "ops/attention_tile.h"
#include "trace/guards.h"

namespace loopos {
namespace {

using attention_detail::for_each_visible;
using attention_detail::head_rows;
using attention_detail::PackedRows;
using attention_detail::scores;
using attention_detail::Span;
using attention_detail::Tile;
using attention_detail::Tiling;
using kernels::matrix;

Guard fully_masked("attention");

template <class T>
bool all_finite(const Heads<T>& x, Index b, Index h, Index first, Index rows, Index width) {
  return rows == 0 || kernels::table<T>().finite_rows(x.row(b, h, first), x.strides.time, rows, width);
}

/// The tile's columns of one span of p.
template <class T>
kernels::Matrix<T> columns(const Tile& t, const T* p, const Span& span) {
  return matrix(p + span.column, t.rows, span.count, t.stride());
}

/// out (rows of the tile) = p x over its keys.
template <class T>
void rows_product(const Tile& t, const T* p, Heads<const T> x, Index width, Heads<T> out) {
  for (const Span& span : t)
    gemm_serial(columns(t, p, span), head_rows(x, t.b, t.kv_head(), span.begin, span.count, width),
                {out.row(t.b, t.h, t.first), out.strides.time}, kernels::Epilogue<T>{span.column > 0},
                t.options.precision);
}

/// out (its keys) += pᵀ x over the rows of the tile.
template <class T>
void keys_product(const Tile& t, const T* p, Heads<const T> x, Index width, Heads<T> out) {
  for (const Span& span : t)
    gemm_serial(transpose(columns(t, p, span)), head_rows(x, t.b, t.h, t.first, t.rows, width),
                {out.row(t.b, t.kv_head(), span.begin), out.strides.time}, kernels::Epilogue<T>{true},
                t.options.precision);
}

/// out (rows of the tile) = p x over the visible keys alone.
template <class T>
void visible_rows_product(const Tile& t, const T* p, Heads<const T> x, Index width, Heads<T> out) {
  for (Index i = 0; i < t.rows; ++i) {
    T* row = out.row(t.b, t.h, t.first + i);
    std::fill(row, row + width, T(0));
    for_each_visible(t, i, [&](Index column, Index s) {
      kernels::table<T>().axpy(x.row(t.b, t.kv_head(), s), width, p[i * t.stride() + column], row);
    });
  }
}

/// out (keys) += pᵀ x over the visible queries alone.
template <class T>
void visible_keys_product(const Tile& t, const T* p, Heads<const T> x, Index width, Heads<T> out) {
  for (Index i = 0; i < t.rows; ++i)
    for_each_visible(t, i, [&](Index column, Index s) {
      kernels::table<T>().axpy(x.row(t.b, t.h, t.first + i), width, p[i * t.stride() + column],
                               out.row(t.b, t.kv_head(), s));
    });
}

struct ForwardScores;
struct Probabilities;
struct Gradients;
struct Dropped;
struct Keys;
struct Values;

/// Returns how many of its rows see nothing.
template <class T>
Index forward_tile(const Tile& t, Heads<const T> q, const PackedRows<T, Keys>& k, Heads<const T> v, Heads<T> y,
                   T* lse) {
  const Index stride = t.stride();
  T* p = scratch<T, ForwardScores>(t.rows * stride);
  const T scale = scores(t, q, k, p);
  Index masked = 0;
  for (Index i = 0; i < t.rows; ++i) {
    const T norm = kernels::table<T>().softmax_row(p + i * stride, t.visible(i), stride, scale);
    lse[t.lse_at(i)] = norm;
    if (norm == -std::numeric_limits<T>::infinity()) ++masked;
    if (t.options.dropout > 0) t.drop(i, p + i * stride);
  }
  rows_product(t, p, v, t.shape.value_width, y);
  if (!all_finite(y, t.b, t.h, t.first, t.rows, t.shape.value_width))
    visible_rows_product(t, p, v, t.shape.value_width, y);
  return masked;
}

template <class T>
struct Backward {  // the operands of attention_backward, with the keys and values of one head packed
  Heads<const T> dy, q, k, v, y;
  const T* lse;
  PackedRows<T, Keys> keys;
  PackedRows<T, Values> values;
  Heads<T> dq, dk, dv;

  void cover(const Tiling& tiling, const Tile& t, Index tile) {
    keys.cover(tiling, t, tile, tiling.tiles - 1);
    values.cover(tiling, t, tile, tiling.tiles - 1);
  }
};

/// Adds one tile's share to dk and dv and writes its dq. `careful`: every product over visible pairs alone.
template <class T>
void backward_tile(const Tile& t, bool careful, const Backward<T>& o) {
  const Index width = t.shape.width, value_width = t.shape.value_width, stride = t.stride();
  const auto& kernel = kernels::table<T>();
  const bool dropping = t.options.dropout > 0;
  T* p = scratch<T, Probabilities>(t.rows * stride);
  T* dp = scratch<T, Gradients>(t.rows * stride);
  T* dropped = dropping ? scratch<T, Dropped>(t.rows * stride) : p;
  kernel.prefetch_rows(o.y.row(t.b, t.h, t.first), o.y.strides.time, t.rows, value_width);  // while the scores are made
  const T scale = scores(t, o.q, o.keys, p);
  o.values.multiply(t, head_rows(o.dy, t.b, t.h, t.first, t.rows, value_width), dp);
  for (Index i = 0; i < t.rows; ++i) {
    T* row = p + i * stride;
    T* grad = dp + i * stride;
    const Index n = t.visible(i);
    kernel.exp_row(row, n, stride, scale, o.lse[t.lse_at(i)]);
    if (dropping) {
      std::copy(row, row + stride, dropped + i * stride);
      t.drop(i, dropped + i * stride);
      t.drop(i, grad);
    }
    const T delta =
        static_cast<T>(kernel.dot(o.dy.row(t.b, t.h, t.first + i), o.y.row(t.b, t.h, t.first + i), value_width));
    kernel.softmax_backward(row, grad, n, delta, static_cast<T>(t.options.scale), grad);
    t.fill_hidden(i, T(0), grad);
    std::fill(grad + n, grad + stride, T(0));
  }
  if (careful) {
    visible_keys_product(t, dropped, o.dy, value_width, o.dv);
    visible_keys_product(t, dp, o.q, width, o.dk);
    visible_rows_product(t, dp, o.k, width, o.dq);
    return;
  }
  keys_product(t, dropped, o.dy, value_width, o.dv);
  keys_product(t, dp, o.q, width, o.dk);
  rows_product(t, dp, o.k, width, o.dq);
}

template <class T>
void clear_rows(Heads<T> x, Index b, Index h, Index rows, Index width) {
  for (Index i = 0; i < rows; ++i) std::fill(x.row(b, h, i), x.row(b, h, i) + width, T(0));
}

}  // namespace

template <class T>
void attention_forward(Heads<const T> q, Heads<const T> k, Heads<const T> v, const AttentionShape& shape,
                       const AttentionOptions& options, Heads<T> y, T* lse) {
  constexpr Index kQueries = 256;  // per task: so many share one packing of the keys
  const Tiling tiling(shape, options);
  std::atomic<Index> masked{0};
  const Index group = std::max<Index>(1, kQueries / tiling.rows), groups = (tiling.tiles + group - 1) / group;
  // One query of few keys, as when generation begins, is not worth another thread.
  const Index grain = row_grain(std::min(shape.queries, kQueries) * shape.keys, shape.width + shape.value_width);
  parallel_blocks(shape.batch * shape.heads * groups, grain, [&](Index begin, Index end) {
    Index here = 0;
    for (Index task = begin; task < end; ++task) {
      const Index b = task / groups / shape.heads, h = task / groups % shape.heads;
      const Index first = task % groups * group, last = std::min(tiling.tiles, first + group);
      PackedRows<T, Keys> keys(k, b, shape.kv_head(h), shape.width, options.precision);
      for (Index tile = first; tile < last; ++tile) {
        const Tile t(tiling, b, h, tile);
        keys.cover(tiling, t, tile, last - 1);
        here += forward_tile(t, q, keys, v, y, lse);
      }
    }
    if (here > 0) masked += here;
  });
  fully_masked.count(masked);
}

template <class T>
void attention_backward(Heads<const T> dy, Heads<const T> q, Heads<const T> k, Heads<const T> v, Heads<const T> y,
                        const T* lse, const AttentionShape& shape, const AttentionOptions& options, Heads<T> dq,
                        Heads<T> dk, Heads<T> dv) {
  const Tiling tiling(shape, options);
  const Index group = shape.heads / std::max<Index>(1, shape.kv_heads);
  // One task owns a key/value head: its dk and dv are summed over the group's heads and tiles in a fixed order.
  parallel_for(shape.batch * shape.kv_heads, [&](Index task) {
    const Index b = task / shape.kv_heads, kv = task % shape.kv_heads;
    Backward<T> operands{dy,
                         q,
                         k,
                         v,
                         y,
                         lse,
                         {k, b, kv, shape.width, options.precision},
                         {v, b, kv, shape.value_width, options.precision},
                         dq,
                         dk,
                         dv};
    const auto run = [&](bool careful) {
      clear_rows(dk, b, kv, shape.keys, shape.width);
      clear_rows(dv, b, kv, shape.keys, shape.value_width);
      bool finite = true;
      for (Index h = kv * group; h < (kv + 1) * group; ++h)
        for (Index tile = 0; tile < tiling.tiles; ++tile) {
          const Tile t(tiling, b, h, tile);
          operands.cover(tiling, t, tile);
          backward_tile(t, careful, operands);
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
