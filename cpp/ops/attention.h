// Scaled dot-product attention with grouped key/value heads.
//   s = scale q kᵀ (masked: -inf),  p = softmax(s),  y = p v,  lse = log sum e^s
// q (B, H, T, D), k (B, Hkv, S, D), v (B, Hkv, S, Dv), y like q with Dv, lse (B, H, T); head h reads key/value head h /
// (H / Hkv). Scores exist only for one tile of queries of one head at a time. Backward recomputes p = e^(s - lse) from
// the saved lse (Dao et al., "FlashAttention", 2022), so forward saves y and lse alone. A fully masked row gives y = 0,
// lse = -inf and is counted by its guard. What a query may not see never reaches it, NaN included: a product that
// met a number that is not finite is done again over the visible pairs alone (0 * NaN would leak).
#pragma once

#include "ops/heads.h"

namespace loopos {

struct AttentionShape {
  Index batch, heads, kv_heads, queries, keys, width, value_width;
};

/// visible(b, h, t, s) = data[b batch + h head + t query + s key]; null data: everything is visible.
struct AttentionMask {
  const bool* data = nullptr;
  Index batch = 0, head = 0, query = 0, key = 0;
};

struct AttentionOptions {
  bool causal = false;  // query t sees keys 0..t, also when T != S
  double scale = 1;
  AttentionMask mask;
  double dropout = 0;     // on p; element (((first_batch + b) H + h) T + t) S + s of the stream `seed`
  Index first_batch = 0;  // where these are part of a larger batch
  std::uint64_t seed = 0;
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
