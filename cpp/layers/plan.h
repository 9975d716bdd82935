// The memory of a stack of layers. It is planned once for a (B, T) and reused: no allocation in a step. The stack
// decides what is kept; layers take what they need from its arena.
#pragma once

#include <functional>
#include <vector>

#include "core/arena.h"
#include "layers/pass.h"

namespace loopos {

/// What layers keep of their forward pass: nothing, where no backward follows; the least, where backward repeats the up
/// projection of a feed-forward, too; what is costly, where the rest is recomputed when a parameter's gradient needs it;
/// or all of it. What is recomputed has the same bits.
enum class Keep { nothing, least, costly, all };

/// Whether blocks share the workspace of what is not kept.
inline bool shares(Keep keep) {
  return keep == Keep::least || keep == Keep::costly;
}

/// An array of the whole batch in the arena, `width` numbers a row. A pass over a part of the batch works on its rows.
template <class T>
struct Rows {
  T* data = nullptr;
  Index width = 0;

  T* at(const Pass& pass) const { return pass.at(data, width); }
  /// The same memory as rows of another width, behind `before` numbers a row.
  Rows behind(const Pass& pass, Index before, Index other_width) const {
    return {data ? data + pass.rows() * before : nullptr, other_width};
  }
};

template <class T>
Rows<T> take_rows(Arena<T>& arena, const Pass& pass, Index width) {
  return {arena.take(pass.rows() * width), width};
}

/// The gradients inside a branch: with Keep::all each has memory of its own; else they lie one behind another in `hidden`,
/// from `before` numbers a row on.
template <class T>
class GradientRows {
 public:
  GradientRows(Arena<T>& arena, const Pass& pass, Keep keep, Rows<T> hidden, Index before)
      : arena_(arena), pass_(pass), keep_(keep), hidden_(hidden), before_(before) {}
  Rows<T> take(Index width) {
    if (keep_ == Keep::all) return take_rows(arena_, pass_, width);
    const Index before = before_;
    before_ += width;
    return hidden_.behind(pass_, before, width);
  }

 private:
  Arena<T>& arena_;
  const Pass& pass_;
  Keep keep_;
  Rows<T> hidden_;
  Index before_;
};

/// What the blocks of a stack share, as no two of them need it at once. What a plan has no use for stays empty.
template <class T>
struct Workspace {
  Rows<T> stream;   // without backward: the output of every block
  Rows<T> normed;   // Keep::costly: the result of a norm
  Rows<T> hidden;   // in forward the result of an activation; in backward the gradients inside a branch
  Rows<T> dnormed;  // gradient of the result of a norm
  Rows<T> dstream;  // Keep::costly: gradient of the residual stream
  Rows<T> dbranch;  // Keep::costly: gradient of a branch behind its dropout
  Rows<T> draw;     // Keep::costly: gradient of a branch before the norm that ends it
  Rows<T> dmiddle;  // Keep::costly: gradient of the stream between branches in parallel
  Rows<T> mapping;  // Keep::costly: what a modulation makes of a branch, and in backward the gradients of it
  Rows<T> slots;    // Keep::costly: partial sums of a norm's parameter gradients; one row of `width` numbers
};

/// A gradient of parameters that is due when all parts of the batch are through, and how many numbers it has.
struct GradientTask {
  Index size;
  std::function<void(const Pass& whole)> run;
};
using GradientTasks = std::vector<GradientTask>;

}  // namespace loopos
