#include "ops/attention.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>

#include "core/buffer.h"
#include "core/thread_pool.h"
#include "kernels/gemm/gemm.h"
#include "kernels/isa/table.h"
#include "ops/dropout.h"
#include "trace/guards.h"

namespace loopos {
namespace {

Guard fully_masked("attention");

using kernels::matrix;
using kernels::PackedMatrix;
using kernels::transpose;

/// Queries per tile, so that the scores of a tile stay in the second-level cache; but not so few that the products of a
/// tile are slow. Short sequences have smaller tiles, so that causal ones skip more of what is hidden.
Index tile_rows(const AttentionShape& s) {
  return s.keys <= 128 ? 32 : std::clamp<Index>(65536 / s.keys, 32, 64);
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

  /// row[s] = value for every key before visible(i) that the mask hides from query i.
  template <class T>
  void fill_masked(Index i, T value, T* row) const {
    if (const bool* m = mask_row(i))
      for (Index s = 0; s < visible(i); ++s)
        if (!m[s * options.mask.key]) row[s] = value;
  }
  /// Distance of the tile's rows of scores: whole vectors.
  Index stride() const { return (keys + kPad - 1) / kPad * kPad; }
  static constexpr Index kPad = 16;

  /// p *= the dropout scales of query i.
  template <class T>
  void drop(Index i, T* p) const {
    struct Scales;
    T* scales = scratch<T, Scales>(keys);
    const auto row = static_cast<std::uint64_t>(lse_at(i) + options.first_batch * shape.heads * shape.queries);
    const std::uint64_t offset = row * static_cast<std::uint64_t>(shape.keys);
    dropout_scales(options.seed, offset, visible(i), options.dropout, scales);
    for (Index s = 0; s < visible(i); ++s) p[s] *= scales[s];
  }
};

/// Rows [first, first + rows) of one head, as a matrix.
template <class T>
kernels::Matrix<T> head_rows(const Heads<const T>& x, Index b, Index h, Index first, Index rows, Index width) {
  return matrix(x.row(b, h, first), rows, width, x.strides.time);
}

/// s = q kᵀ over the tile. Returns what is still to be multiplied in: the scale, or 1 where a mask or the sign of the
/// scale asks for it to be done here.
template <class T>
T scores(const Tile& t, Heads<const T> q, const PackedMatrix<T>& k, T* s) {
  gemm_packed(head_rows(q, t.b, t.h, t.first, t.rows, t.shape.width), k, t.keys, {s, t.stride()});
  const T scale = static_cast<T>(t.options.scale);
  if (!t.options.mask.data && scale > 0) return scale;
  for (Index i = 0; i < t.rows; ++i) {
    T* row = s + i * t.stride();
    kernels::table<T>().scale(row, t.visible(i), scale, row);
    t.fill_masked(i, -std::numeric_limits<T>::infinity(), row);
  }
  return T(1);
}

template <class T>
bool all_finite(const Heads<T>& x, Index b, Index h, Index first, Index rows, Index width) {
  return rows == 0 || kernels::table<T>().finite_rows(x.row(b, h, first), x.strides.time, rows, width);
}

/// out (rows of the tile) = p x over the visible keys alone.
template <class T>
void visible_rows_product(const Tile& t, const T* p, Heads<const T> x, Index kv, Index width, Heads<T> out) {
  for (Index i = 0; i < t.rows; ++i) {
    T* row = out.row(t.b, t.h, t.first + i);
    std::fill(row, row + width, T(0));
    for (Index s = 0; s < t.keys; ++s)
      if (t.sees(i, s)) kernels::table<T>().axpy(x.row(t.b, kv, s), width, p[i * t.stride() + s], row);
  }
}

/// out (keys) += pᵀ x over the visible queries alone.
template <class T>
void visible_keys_product(const Tile& t, const T* p, Heads<const T> x, Index kv, Index width, Heads<T> out) {
  for (Index i = 0; i < t.rows; ++i)
    for (Index s = 0; s < t.keys; ++s)
      if (t.sees(i, s))
        kernels::table<T>().axpy(x.row(t.b, t.h, t.first + i), width, p[i * t.stride() + s], out.row(t.b, kv, s));
}

struct ForwardScores;
struct Probabilities;
struct Gradients;
struct Dropped;
struct Keys;
struct Values;

/// The first `rows` rows of one head of x, packed as the transposed right operand of a product.
template <class T, class Tag>
PackedMatrix<T> pack_transposed(Heads<const T> x, Index b, Index h, Index rows, Index width) {
  PackedMatrix<T> packed{transpose(head_rows(x, b, h, 0, rows, width)), nullptr};
  packed.memory = scratch<T, Tag>(packed.size());
  packed.pack(0, rows);
  return packed;
}

template <class T>
void forward_tile(const Tile& t, Heads<const T> q, const PackedMatrix<T>& k, Heads<const T> v, Heads<T> y, T* lse) {
  const Index kv = t.h / (t.shape.heads / t.shape.kv_heads), stride = t.stride();
  T* p = scratch<T, ForwardScores>(t.rows * stride);
  const T scale = scores(t, q, k, p);
  Index masked = 0;
  for (Index i = 0; i < t.rows; ++i) {
    const T norm = kernels::table<T>().softmax_row(p + i * stride, t.visible(i), stride, scale);
    lse[t.lse_at(i)] = norm;
    if (norm == -std::numeric_limits<T>::infinity()) ++masked;
    if (t.options.dropout > 0) t.drop(i, p + i * stride);
  }
  if (masked > 0) fully_masked.count(masked);
  gemm_serial(matrix(p, t.rows, t.keys, stride), head_rows(v, t.b, kv, 0, t.keys, t.shape.value_width),
              {y.row(t.b, t.h, t.first), y.strides.time});
  if (!all_finite(y, t.b, t.h, t.first, t.rows, t.shape.value_width))
    visible_rows_product(t, p, v, kv, t.shape.value_width, y);
}

template <class T>
struct Backward {  // the operands of attention_backward, with the keys and values of one head packed
  Heads<const T> dy, q, k, v, y;
  const T* lse;
  PackedMatrix<T> keys, values;
  Heads<T> dq, dk, dv;
};

/// Adds one tile's share to dk and dv and writes its dq. `careful`: every product over visible pairs alone.
template <class T>
void backward_tile(const Tile& t, bool careful, const Backward<T>& o) {
  const Index kv = t.h / (t.shape.heads / t.shape.kv_heads), width = t.shape.width, value_width = t.shape.value_width,
              stride = t.stride();
  const auto& kernel = kernels::table<T>();
  const bool dropping = t.options.dropout > 0;
  T* p = scratch<T, Probabilities>(t.rows * stride);
  T* dp = scratch<T, Gradients>(t.rows * stride);
  T* dropped = dropping ? scratch<T, Dropped>(t.rows * stride) : p;
  const auto dy = head_rows(o.dy, t.b, t.h, t.first, t.rows, value_width);
  const T scale = scores(t, o.q, o.keys, p);
  gemm_packed(dy, o.values, t.keys, {dp, stride});
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
    t.fill_masked(i, T(0), grad);
    std::fill(grad + n, grad + stride, T(0));
  }
  if (careful) {
    visible_keys_product(t, dropped, o.dy, kv, value_width, o.dv);
    visible_keys_product(t, dp, o.q, kv, width, o.dk);
    visible_rows_product(t, dp, o.k, kv, width, o.dq);
    return;
  }
  const auto q = head_rows(o.q, t.b, t.h, t.first, t.rows, width), k = head_rows(o.k, t.b, kv, 0, t.keys, width);
  const auto ds = matrix(dp, t.rows, t.keys, stride);
  const kernels::Epilogue<T> add{true};
  gemm_serial(transpose(matrix(dropped, t.rows, t.keys, stride)), dy, {o.dv.row(t.b, kv, 0), o.dv.strides.time}, add);
  gemm_serial(transpose(ds), q, {o.dk.row(t.b, kv, 0), o.dk.strides.time}, add);
  gemm_serial(ds, k, {o.dq.row(t.b, t.h, t.first), o.dq.strides.time});
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
  const Index rows = tile_rows(shape), tiles = (shape.queries + rows - 1) / rows,
              group = std::max<Index>(1, kQueries / rows), groups = (tiles + group - 1) / group;
  parallel_for(shape.batch * shape.heads * groups, [&](Index task) {
    const Index b = task / groups / shape.heads, h = task / groups % shape.heads;
    const Index first = task % groups * group, last = std::min(tiles, first + group);
    const Index visible = Tile(shape, options, b, h, last - 1).keys;
    const auto keys = pack_transposed<T, Keys>(k, b, h / (shape.heads / shape.kv_heads), visible, shape.width);
    for (Index tile = first; tile < last; ++tile) forward_tile(Tile(shape, options, b, h, tile), q, keys, v, y, lse);
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
    const Backward<T> operands{dy,
                               q,
                               k,
                               v,
                               y,
                               lse,
                               pack_transposed<T, Keys>(k, b, kv, shape.keys, shape.width),
                               pack_transposed<T, Values>(v, b, kv, shape.keys, shape.value_width),
                               dq,
                               dk,
                               dv};
    const auto run = [&](bool careful) {
      clear_rows(dk, b, kv, shape.keys, shape.width);
      clear_rows(dv, b, kv, shape.keys, shape.value_width);
      bool finite = true;
      for (Index h = kv * group; h < (kv + 1) * group; ++h)
        for (Index tile = 0; tile < tiles; ++tile) {
          const Tile t(shape, options, b, h, tile);
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
