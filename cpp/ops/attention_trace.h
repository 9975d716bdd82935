// For a trace: what an element of attention was made of, and the scores. They never exist as a whole: the tiles of
// forward are recomputed, one at a time. Hidden scores are no part of them. A score that overflowed to -inf would pass
// for a hidden one, and nothing behind it would show: so a trace looks at them first.
#pragma once

#include <string>

#include "ops/attention.h"
#include "trace/probe.h"

namespace loopos {

/// What attention read, and for gradients what it gave: y, lse and the gradient dy of y.
template <class T>
struct AttentionOperands {
  Heads<const T> q, k, v;
  Heads<const T> y{}, dy{};
  const T* lse = nullptr;
};

/// One number: of query `row` and head `head` of q where it is of y or dq, of key `row` and head `head` of k where it is
/// of dk or dv.
struct AttentionElement {
  enum Tensor { y, dq, dk, dv };
  Tensor tensor;
  Index batch, head, row, number;

  /// Element `index` = (b, t, channel) of y (B, T, H Dv), or of the gradient (B, T, H D + Hkv D + Hkv Dv) of a fused
  /// projection, whose rows hold the heads of q, then of k, then of v.
  static AttentionElement of_output(const AttentionShape& shape, const Extents& index);
  static AttentionElement of_fused(const AttentionShape& shape, const Extents& index);
};

/// The numbers that went into the sum over pairs of a query and a key which the element is, as forward or backward had
/// them; p is recomputed. As vectors, one row for each of n pairs, or one row where all pairs share it:
///   y:   probability, v (n): its number                                  the query with each of the S keys: zeros for
///   dq:  probability, k (n): its number, v (n, Dv), dy (Dv), y (Dv)      those that it does not see
///   dk:  probability, q (n): its number, dy, y (n, Dv), v (Dv)           the key with each query that sees it, of all
///   dv:  probability, dy (n): its number                                 heads that read it
/// With dropout, dropped (n): 0, or what p is multiplied by. As single numbers: scale and the sizes heads, kv_heads,
/// head_width and value_width.
template <class T>
void attention_operands(const AttentionOperands<T>& x, const AttentionShape& shape, const AttentionOptions& options,
                        const AttentionElement& element, Operands& o);

/// Shows the probe the scores (B, H, T, S) that forward makes of q and k, as a tensor of this name: of each query those
/// of the keys that it sees.
template <class T>
void see_attention_scores(Heads<const T> q, Heads<const T> k, const AttentionShape& shape,
                          const AttentionOptions& options, Probe& probe, Index layer, const std::string& tensor);

/// Whether all of them are finite.
template <class T>
bool attention_scores_finite(Heads<const T> q, Heads<const T> k, const AttentionShape& shape,
                             const AttentionOptions& options);

}  // namespace loopos
