// Inside attention: the tiles that queries are cut into, the keys that a tile sees, and its scores.
#pragma once

#include <algorithm>
#include <limits>
#include <utility>

#include "core/buffer.h"
#include "kernels/gemm/gemm.h"
#include "kernels/isa/table.h"
#include "ops/attention.h"
#include "ops/dropout.h"

namespace loopos::attention_detail {

/// Keys [begin, begin + count) are the columns from `column` on of a tile's scores.
struct Span {
  Index begin, count, column;
};

/// How the queries of a head are cut: `tiles` tiles of `rows` rows.
struct Tiling {
  const AttentionShape shape;
  AttentionOptions options;
  Index rows, tiles;

  Tiling(const AttentionShape& s, const AttentionOptions& o) : shape(s), options(o) {
    Visibility& v = options.visibility;
    if (v.window >= v.start + s.queries) v.window = 0;  // hides nothing
    const bool windowed = v.causal && v.window > 0;
    rows = rows_over(windowed ? std::min(s.keys, v.prefix + v.window + kMostRows) : s.keys);
    tiles = (s.queries + rows - 1) / rows;
  }

 private:
  static constexpr Index kMostRows = 64;
  /// So few that the scores of a tile stay in the second-level cache; but not so few that the products of a tile are
  /// slow. Short sequences have smaller tiles, so that causal ones skip more of what is hidden.
  static Index rows_over(Index keys) { return keys <= 128 ? 32 : std::clamp<Index>(65536 / keys, 32, kMostRows); }
};

/// One head's tile of queries [first, first + rows), and the keys that any of them sees: one span of them, or the
/// prefix and the window. Row i has scores in columns [0, visible(i)), of which those of hidden(i) are not its own.
struct Tile {
  const AttentionShape& shape;
  const AttentionOptions& options;
  Index b, h, first, rows;
  Span spans[2];
  Index span_count, columns;

  Tile(const Tiling& tiling, Index batch, Index head, Index tile)
      : shape(tiling.shape),
        options(tiling.options),
        b(batch),
        h(head),
        first(tile * tiling.rows),
        rows(std::min(tiling.rows, shape.queries - first)) {
    const SeenKeys top = seen(0);
    const Index begin = top.begin > top.prefix ? top.begin : 0, end = seen(rows - 1).end;
    span_count = 0;
    if (begin > 0 && top.prefix > 0) spans[span_count++] = {0, top.prefix, 0};
    spans[span_count] = {begin, end - begin, span_count > 0 ? top.prefix : 0};
    columns = spans[span_count].column + spans[span_count].count;
    ++span_count;
  }

  const Span* begin() const { return spans; }
  const Span* end() const { return spans + span_count; }
  Index kv_head() const { return shape.kv_head(h); }
  SeenKeys seen(Index i) const { return options.seen(shape, b, first + i); }
  Index visible(Index i) const { return column(seen(i).end); }
  /// Columns [first, second) before visible(i) belong to keys that lie before the window or the document of row i.
  std::pair<Index, Index> hidden(Index i) const {
    const SeenKeys keys = seen(i);
    return {column(std::max(keys.prefix, last().begin)), column(keys.begin)};
  }
  bool sees(Index i, Index s) const { return options.sees(shape, b, h, first + i, s); }
  Index lse_at(Index i) const { return shape.row(b, h, first + i); }

  /// row[column] = value for every column before visible(i) whose key is hidden from query i.
  template <class T>
  void fill_hidden(Index i, T value, T* row) const {
    const auto [from, to] = hidden(i);
    std::fill(row + from, row + std::max(from, to), value);
    const bool* mask = options.mask.row(b, h, first + i);
    if (!mask) return;
    const Index n = visible(i);
    for (const Span& span : *this)
      for (Index j = 0; j < std::min(span.count, n - span.column); ++j)
        if (!mask[(span.begin + j) * options.mask.key]) row[span.column + j] = value;
  }
  /// Distance of the tile's rows of scores: whole vectors.
  Index stride() const { return (columns + kPad - 1) / kPad * kPad; }
  static constexpr Index kPad = 16;

  /// p *= the dropout scales of query i.
  template <class T>
  void drop(Index i, T* p) const {
    struct Scales;
    T* scales = scratch<T, Scales>(columns);
    const std::uint64_t offset = options.stream_offset(shape, b, h, first + i);
    const Index n = visible(i);
    for (const Span& span : *this) {
      const Index count = std::min(span.count, n - span.column);
      dropout_scales(options.seed, offset + static_cast<std::uint64_t>(span.begin), count, options.dropout, scales);
      for (Index j = 0; j < count; ++j) p[span.column + j] *= scales[j];
    }
  }

 private:
  const Span& last() const { return spans[span_count - 1]; }
  Index column(Index key) const { return key - last().begin + last().column; }
};

/// body(column, s) for every key s that query i sees.
template <class Body>
void for_each_visible(const Tile& t, Index i, Body&& body) {
  for (const Span& span : t)
    for (Index j = 0; j < span.count; ++j)
      if (t.sees(i, span.begin + j)) body(span.column + j, span.begin + j);
}

/// Rows [first, first + rows) of one head, as a matrix.
template <class T>
kernels::Matrix<T> head_rows(const Heads<const T>& x, Index b, Index h, Index first, Index rows, Index width) {
  return kernels::matrix(x.row(b, h, first), rows, width, x.strides.time);
}

/// Rows of one head of keys (or values), packed as the transposed right operand of a product: once for neighbouring
/// tiles that see keys from the same one on. A tile that sees others packs its own. A tile of one query, as in
/// generation, packs nothing: its product reads each key once, in place. Tag: of the memory that holds what is shared.
template <class T, class Tag>
class PackedRows {
 public:
  PackedRows(Heads<const T> x, Index b, Index head, Index width, Precision precision)
      : x_(x), b_(b), head_(head), width_(width), precision_(precision) {}

  /// Before the products of tile `number`: packs what it shares with those up to `last`, unless that is done.
  void cover(const Tiling& tiling, const Tile& t, Index number, Index last) {
    const Index begin = t.spans[0].begin;
    if (begin == begin_ || t.rows == 1) return;
    Index count = t.spans[0].count;
    while (++number <= last) {
      const Tile next(tiling, t.b, t.h, number);
      if (next.spans[0].begin != begin) break;
      count = next.spans[0].count;
    }
    shared_ = pack<Tag>(begin, count);
    begin_ = begin;
  }

  /// c (rows of the tile, its columns) = a xᵀ, a (rows, width).
  void multiply(const Tile& t, const kernels::Matrix<T>& a, T* c) const {
    struct Own;
    for (const Span& span : t) {
      const kernels::Output<T> out{c + span.column, t.stride()};
      const bool ready = span.begin == begin_ && span.count <= shared_.source.columns;
      if (t.rows == 1)
        gemm_serial(a, columns(span.begin, span.count), out);
      else
        gemm_packed(a, ready ? shared_ : pack<Own>(span.begin, span.count), span.count, out);
    }
  }

 private:
  kernels::Matrix<T> columns(Index begin, Index rows) const {
    return transpose(head_rows(x_, b_, head_, begin, rows, width_));
  }
  template <class Memory>
  kernels::PackedMatrix<T> pack(Index begin, Index rows) const {
    kernels::PackedMatrix<T> packed{columns(begin, rows), nullptr, precision_};
    packed.memory = scratch<T, Memory>(packed.size());
    packed.pack(0, rows);
    return packed;
  }

  Heads<const T> x_;
  Index b_, head_, width_;
  Precision precision_;
  Index begin_ = -1;  // of what is shared; -1: nothing is yet
  kernels::PackedMatrix<T> shared_{};
};

/// s = q kᵀ over the tile. Returns what is still to be multiplied in: the scale, or 1 where a mask or the sign of the
/// scale asks for it to be done here. What is hidden is -inf.
template <class T, class Tag>
T scores(const Tile& t, Heads<const T> q, const PackedRows<T, Tag>& k, T* s) {
  k.multiply(t, head_rows(q, t.b, t.h, t.first, t.rows, t.shape.width), s);
  const T scale = static_cast<T>(t.options.scale);
  const bool later = !t.options.mask.data && scale > 0;
  for (Index i = 0; i < t.rows; ++i) {
    T* row = s + i * t.stride();
    if (!later) kernels::table<T>().scale(row, t.visible(i), scale, row);
    t.fill_hidden(i, -std::numeric_limits<T>::infinity(), row);
  }
  return later ? scale : T(1);
}

}  // namespace loopos::attention_detail
