#include "ops/attention_trace.h"

#include <vector>

#include "ops/attention_tile.h"
#include "trace/flags.h"

namespace loopos {
namespace {

using attention_detail::for_each_visible;
using attention_detail::PackedRows;
using attention_detail::scores;
using attention_detail::Tile;
using attention_detail::Tiling;

/// body(tile, its scores, what they are still to be multiplied by) for tiles [from, to) of one head.
template <class T, class Body>
void each_tile(Heads<const T> q, Heads<const T> k, const Tiling& tiling, Index b, Index h, Index from, Index to,
               Body&& body) {
  struct Keys;
  struct Scores;
  PackedRows<T, Keys> keys(k, b, tiling.shape.kv_head(h), tiling.shape.width, tiling.options.precision);
  for (Index tile = from; tile < to; ++tile) {
    const Tile t(tiling, b, h, tile);
    keys.cover(tiling, t, tile, to - 1);
    T* s = scratch<T, Scores>(t.rows * t.stride());
    const T scale = scores(t, q, keys, s);
    body(t, s, scale);
  }
}

/// body(tile, row, first key, n, scores): for each run of neighbouring keys that a query sees.
template <class T, class Body>
void each_run(Heads<const T> q, Heads<const T> k, const AttentionShape& shape, const AttentionOptions& options,
              Body&& body) {
  const Tiling tiling(shape, options);
  const auto runs = [&](const Tile& t, T* scores, T scale) {
    for (Index i = 0; i < t.rows; ++i) {
      T* row = scores + i * t.stride();
      Index first = 0, from = 0, n = 0;  // of a run: its first key, the column of it, and how many
      for_each_visible(t, i, [&](Index column, Index s) {
        row[column] *= scale;
        if (s != first + n || column != from + n) {
          if (n > 0) body(t, i, first, n, row + from);
          first = s;
          from = column;
          n = 0;
        }
        ++n;
      });
      if (n > 0) body(t, i, first, n, row + from);
    }
  };
  for (Index b = 0; b < shape.batch; ++b)
    for (Index h = 0; h < shape.heads; ++h) each_tile(q, k, tiling, b, h, 0, tiling.tiles, runs);
}

template <class T>
using Numbers = std::vector<T>;

template <class T>
void append(Numbers<T>& numbers, const T* row, Index width) {
  numbers.insert(numbers.end(), row, row + width);
}

template <class T>
T dropout_scale(const AttentionShape& s, const AttentionOptions& options, Index b, Index h, Index t, Index key) {
  T scale;
  const std::uint64_t offset = options.stream_offset(s, b, h, t) + static_cast<std::uint64_t>(key);
  dropout_scales(options.seed, offset, 1, options.dropout, &scale);
  return scale;
}

/// Of y or dq: the pairs of one query with every key; zeros for those that it does not see.
template <class T>
void take_query(const AttentionOperands<T>& x, const Tiling& tiling, const AttentionElement& e, Operands& o) {
  const AttentionShape& shape = tiling.shape;
  const bool forward = e.tensor == AttentionElement::y;
  const Index kv = shape.kv_head(e.head), tile = e.row / tiling.rows, values = forward ? 1 : shape.value_width;
  const auto keys = static_cast<std::size_t>(shape.keys);
  Numbers<T> p(keys), k(keys), v(keys * static_cast<std::size_t>(values)), dropped(keys);
  each_tile(x.q, x.k, tiling, e.batch, e.head, tile, tile + 1, [&](const Tile& t, T* scores, T scale) {
    const Index i = e.row - t.first;
    T* row = scores + i * t.stride();
    if (forward)
      kernels::table<T>().softmax_row(row, t.visible(i), t.stride(), scale);
    else
      kernels::table<T>().exp_row(row, t.visible(i), t.stride(), scale, x.lse[t.lse_at(i)]);
    for_each_visible(t, i, [&](Index column, Index s) {
      const auto at = static_cast<std::size_t>(s);
      p[at] = row[column];
      k[at] = x.k.row(e.batch, kv, s)[forward ? 0 : e.number];
      std::copy_n(x.v.row(e.batch, kv, s) + (forward ? e.number : 0), values, v.data() + s * values);
      if (t.options.dropout > 0) dropped[at] = dropout_scale<T>(shape, t.options, e.batch, e.head, e.row, s);
    });
  });
  o.take("probability", p);
  o.take("v", v);
  if (tiling.options.dropout > 0) o.take("dropped", dropped);
  if (forward) return;
  o.take("k", k);
  o.take("dy", x.dy.row(e.batch, e.head, e.row), shape.value_width);
  o.take("y", x.y.row(e.batch, e.head, e.row), shape.value_width);
}

/// Of dk or dv: the pairs of one key with each query that sees it.
template <class T>
void take_key(const AttentionOperands<T>& x, const Tiling& tiling, const AttentionElement& e, Operands& o) {
  const AttentionShape& shape = tiling.shape;
  const bool of_value = e.tensor == AttentionElement::dv;
  const Index group = shape.heads / shape.kv_heads;
  Numbers<T> p, q, dy, y, dropped;
  for (Index h = e.head * group; h < (e.head + 1) * group; ++h)
    each_tile(x.q, x.k, tiling, e.batch, h, 0, tiling.tiles, [&](const Tile& t, T* scores, T scale) {
      for (Index i = 0; i < t.rows; ++i) {
        if (!t.sees(i, e.row)) continue;
        T* row = scores + i * t.stride();
        kernels::table<T>().exp_row(row, t.visible(i), t.stride(), scale, x.lse[t.lse_at(i)]);
        const Index at = t.first + i;
        for_each_visible(t, i, [&](Index column, Index s) {
          if (s == e.row) p.push_back(row[column]);
        });
        if (t.options.dropout > 0) dropped.push_back(dropout_scale<T>(shape, t.options, e.batch, h, at, e.row));
        const T* gradient = x.dy.row(e.batch, h, at);
        if (of_value) {
          dy.push_back(gradient[e.number]);
          continue;
        }
        q.push_back(x.q.row(e.batch, h, at)[e.number]);
        append(dy, gradient, shape.value_width);
        append(y, x.y.row(e.batch, h, at), shape.value_width);
      }
    });
  o.take("probability", p);
  o.take("dy", dy);
  if (tiling.options.dropout > 0) o.take("dropped", dropped);
  if (of_value) return;
  o.take("q", q);
  o.take("y", y);
  o.take("v", x.v.row(e.batch, e.head, e.row), shape.value_width);
}

}  // namespace

AttentionElement AttentionElement::of_output(const AttentionShape& shape, const Extents& index) {
  return {y, index.n[0], index.n[2] / shape.value_width, index.n[1], index.n[2] % shape.value_width};
}

AttentionElement AttentionElement::of_fused(const AttentionShape& shape, const Extents& index) {
  const Index keys = shape.heads * shape.width, values = keys + shape.kv_heads * shape.width;
  const Index b = index.n[0], t = index.n[1], channel = index.n[2];
  if (channel < keys) return {dq, b, channel / shape.width, t, channel % shape.width};
  if (channel < values) return {dk, b, (channel - keys) / shape.width, t, (channel - keys) % shape.width};
  return {dv, b, (channel - values) / shape.value_width, t, (channel - values) % shape.value_width};
}

template <class T>
void attention_operands(const AttentionOperands<T>& x, const AttentionShape& shape, const AttentionOptions& options,
                        const AttentionElement& element, Operands& o) {
  o.set("heads", shape.heads);
  o.set("kv_heads", shape.kv_heads);
  o.set("head_width", shape.width);
  o.set("value_width", shape.value_width);
  o.set("scale", options.scale);
  const bool of_query = element.tensor == AttentionElement::y || element.tensor == AttentionElement::dq;
  (of_query ? take_query<T> : take_key<T>)(x, Tiling(shape, options), element, o);
}

template <class T>
void see_attention_scores(Heads<const T> q, Heads<const T> k, const AttentionShape& shape,
                          const AttentionOptions& options, Probe& probe, Index layer, const std::string& tensor) {
  const Extents extents{shape.batch, shape.heads, shape.queries, shape.keys};
  each_run(q, k, shape, options, [&](const Tile& t, Index i, Index first, Index n, const T* scores) {
    const auto take = [&](Operands& o) {
      o.take("q", q.row(t.b, t.h, t.first + i), shape.width);
      o.take("k", k.row(t.b, shape.kv_head(t.h), o.column()), shape.width);
      o.set("scale", options.scale);
    };
    const Index row = shape.row(t.b, t.h, t.first + i);
    probe.see("forward", layer, "attention", tensor, scores, extents, take, row * shape.keys + first, n);
  });
}

template <class T>
bool attention_scores_finite(Heads<const T> q, Heads<const T> k, const AttentionShape& shape,
                             const AttentionOptions& options) {
  bool finite = true;
  each_run(q, k, shape, options,
           [&](const Tile&, Index, Index, Index n, const T* scores) { finite = finite && all_finite(scores, n); });
  return finite;
}

#define LOOPOS_INSTANTIATE(T)                                                                                        \
  template void attention_operands(const AttentionOperands<T>&, const AttentionShape&, const AttentionOptions&,      \
                                   const AttentionElement&, Operands&);                                              \
  template void see_attention_scores(Heads<const T>, Heads<const T>, const AttentionShape&, const AttentionOptions&, \
                                     Probe&, Index, const std::string&);                                             \
  template bool attention_scores_finite(Heads<const T>, Heads<const T>, const AttentionShape&, const AttentionOptions&);
LOOPOS_INSTANTIATE(float)
LOOPOS_INSTANTIATE(double)

}  // namespace loopos
