// Scaled dot-product attention with grouped key/value heads (Vaswani et al., 2017; Ainslie et al., "GQA", 2023).
//   s = scale q kᵀ (hidden: -inf),  p = softmax(s),  y = p v,  lse = log sum e^s
//   q (B, H, T, D), k (B, Hkv, S, D), v (B, Hkv, S, Dv), y (B, H, T, Dv), lse (B, H, T)
//   head h reads key/value head h / (H / Hkv)
// Keys and values may come from the queries' own sequence (S = T), from a cache that began before it (S = start + T),
// or from a memory of another length (cross-attention: S != T, full visibility).
//
// Scores exist only for one tile of queries of one head at a time, over the keys that this tile sees: no (T, S) matrix
// is ever held, not even for one head. A window costs O(T window) in time, documents that share a row the squares of
// their lengths. Backward recomputes p = e^(s - lse) from the saved lse (Dao et al., "FlashAttention", 2022), so forward
// saves y and lse alone. A row that sees nothing gives y = 0, lse = -inf and is counted by its guard. What a query may
// not see never reaches it, NaN included: a product that met a number that is not finite is recomputed over the visible
// pairs alone (0 * NaN would leak).
#pragma once

#include <algorithm>

#include "core/precision.h"
#include "ops/heads.h"

namespace loopos {

struct AttentionShape {
  Index batch, heads, kv_heads, queries, keys, width, value_width;

  Index kv_head(Index h) const { return h / (heads / kv_heads); }
  Index row(Index b, Index h, Index t) const { return (b * heads + h) * queries + t; }
};

/// The keys [0, prefix) and [begin, end), with prefix <= begin <= end.
struct SeenKeys {
  Index prefix, begin, end;
  bool has(Index s) const { return s < prefix || (s >= begin && s < end); }
};

/// Which keys a query may see; a mask may hide more. Query t stands at position p = start + t, key s at position s.
///   full (causal false): every s
///   causal:              s <= p, and with a window W only the last W of them: p - W < s <= p
///   with a prefix:       s < prefix too, from every position
///   with `from`:         no s before it; a prefix has none (it would be cut in two)
/// The window is that of Mistral (Jiang et al., 2023) and transformers' sliding_window: the query itself counts (it is
/// Longformer's, Beltagy et al., 2020, looking back). The prefix is that of prefix language models (T5, Raffel et al.,
/// 2020; UniLM, Dong et al., 2019). The prefix is seen outside the window too.
struct Visibility {
  bool causal = false;
  Index window = 0;  // 0: none. Of causal attention alone, as is the prefix
  Index prefix = 0;
  Index start = 0;  // keys before the first query's own: in generation, those of the cache

  /// from: the first key that is open to this query.
  SeenKeys seen(Index query, Index keys, Index from) const {
    if (!causal) return {0, 0, keys};
    const Index position = start + query, first = std::min(prefix, keys);
    const Index end = std::max(first, std::min(position + 1, keys));
    const Index begin = window > 0 ? std::max(from, position - window + 1) : from;
    return {first, std::clamp(begin, first, end), end};
  }
};

/// mask(b, h, t, s) = data[b batch + h head + t query + s key]: whether t may see s, if its Visibility lets it. Null
/// data: true throughout.
struct AttentionMask {
  const bool* data = nullptr;
  Index batch = 0, head = 0, query = 0, key = 0;

  /// Of one query: element s of it is at [s key]. Null where everything is true.
  const bool* row(Index b, Index h, Index t) const { return data ? data + b * batch + h * head + t * query : nullptr; }
};

struct AttentionOptions {
  Visibility visibility;
  /// (B, T), or null for 0: the first key that is open to each query, where its document begins, so that documents
  /// share a row and do not see each other. It never falls along a row. Of causal attention alone, without a prefix.
  const Index* begins = nullptr;
  double scale = 1;
  AttentionMask mask;
  double dropout = 0;                        // on p: element stream_offset(b, h, t) + s of the stream `seed`
  Index first_batch = 0;                     // where these are part of a larger batch
  Precision precision = Precision::float32;  // of float products
  std::uint64_t seed = 0;

  SeenKeys seen(const AttentionShape& shape, Index b, Index t) const {
    return visibility.seen(t, shape.keys, begins ? begins[b * shape.queries + t] : 0);
  }
  bool sees(const AttentionShape& shape, Index b, Index h, Index t, Index s) const {
    const bool* row = mask.row(b, h, t);
    return seen(shape, b, t).has(s) && (!row || row[s * mask.key]);
  }
  /// (((first_batch + b) H + h) T + t) S
  std::uint64_t stream_offset(const AttentionShape& shape, Index b, Index h, Index t) const {
    return static_cast<std::uint64_t>(shape.row(first_batch + b, h, t)) * static_cast<std::uint64_t>(shape.keys);
  }
};

template <class T>
struct Heads {
  T* data;
  HeadStrides strides;
  T* row(Index b, Index h, Index t) const { return data + b * strides.batch + h * strides.head + t * strides.time; }
};

template <class T>
void attention_forward(Heads<const T> q, Heads<const T> k, Heads<const T> v, const AttentionShape& shape,
                       const AttentionOptions& options, Heads<T> y, T* lse);

/// Overwrites dq, dk, dv.
template <class T>
void attention_backward(Heads<const T> dy, Heads<const T> q, Heads<const T> k, Heads<const T> v, Heads<const T> y,
                        const T* lse, const AttentionShape& shape, const AttentionOptions& options, Heads<T> dq,
                        Heads<T> dk, Heads<T> dv);

}  // namespace loopos
