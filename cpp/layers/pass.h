// What every layer is given about one pass through the model.
//
// A pass may be over a part of the batch: whole sequences, so that several threads each take their own through all
// layers. Pointers that a layer is given are those of the part; what it keeps itself is of the whole batch (Rows::at).
// forward and backward of a layer run on parts; the parameters' gradients are taken from the whole batch, when every
// part is through.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/parameter.h"
#include "core/philox.h"
#include "ops/positions.h"
#include "trace/flags.h"
#include "trace/probe.h"

namespace loopos {

struct Pass {
  Index batch = 0, time = 0;
  Index first = 0;      // sequences of the whole batch before this part
  Index before = 0;     // sequences of the batch that earlier passes took, where it is cut into several
  Index origin = 0;     // sequences of a larger batch before this one, which is a shard of it; dropout counts them
  bool packed = false;  // the weights are packed
  Index start = 0;      // position of the first token: > 0 when generation continues from its cache
  Index prefix = 0;     // rows that stand before the tokens of each sequence; `time` counts them, too
  Index cached = 0;     // time axis of the key/value cache; 0: none
  /// (B, T) of the whole batch, never falling along a row: a token sees those of its own number alone, and positions
  /// begin again with each. Null: a sequence is one document.
  const Index* documents = nullptr;
  /// (B), in generation: so many tokens at the beginning of each row fill it up and are seen by no other. Null: 0.
  const Index* padding = nullptr;
  Positions positions;            // of the tokens: start, start + 1, ... from where their document begins
  const Index* begins = nullptr;  // (B, T): where that is; null: at the first token
  bool scored = false;            // the loss is wanted, the logits are not
  bool stochastic = false;        // a training step: what draws at random does
  bool compared = false;          // with a teacher's logits
  double dropout = 0;
  std::uint64_t seed = 0, step = 0, micro = 0;  // dropout is keyed by these and the site
  Probe* probe = nullptr;       // with one, the batch is one part and nothing is fused: every tensor exists
  FlagRecord* flags = nullptr;  // where operations that raise one are written down
  /// Told on the way through backward, if it is wanted: the gradients from this place in their buffer to its end will not
  /// change any more in this pass. Called by the thread that made the pass, between two operations.
  const std::function<void(Index)>* final_from = nullptr;

  static Pass whole(Index batch, Index time) {
    Pass result;
    result.batch = batch;
    result.time = time;
    return result;
  }
  Index rows() const { return batch * time; }
  /// The same of the tokens alone, the first of which has position 0: behind `before` rows, if not those of this pass.
  Pass of_tokens(Index before) const {
    Pass result = *this;
    result.time -= prefix;
    result.prefix = 0;
    if (positions.data) result.positions.data += prefix;
    result.positions.origin = before;
    return result;
  }
  bool looking() const { return probe && probe->looking(); }
  /// For a trace: rows x of `width` numbers, which are about to be written over. Nothing where x is null or none looks.
  template <class T>
  std::vector<T> overwritten(const T* x, Index width) const {
    return looking() && x ? std::vector<T>(x, x + rows() * width) : std::vector<T>();
  }
  /// A layer calls it when an operation is done: it gave x, the tensor site.tensor of this shape or `count` elements
  /// of it from `first`. take(operands) says what made an element.
  template <class T, class Take = NoOperands>
  void see(const char* phase, Index layer, const char* op, const std::string& site, const char* tensor, T* x,
           const Extents& shape, const Take& take = {}, Index first = 0, Index count = -1) const {
    if (probe) probe->see(phase, layer, op, site.empty() ? tensor : site + "." + tensor, x, shape, take, first, count);
    if (flags) flags->check(phase, layer, op, site, tensor, x, count < 0 ? shape.size() : count);
  }
  /// The gradient of a parameter is done.
  template <class T, class Take>
  void see_gradient(const char* op, const Parameter<T>& p, const Take& take) const {
    see("backward", p.layer, op, "", p.name.c_str(), p.grad, p.shape, take);
  }
  /// Where this part begins in an array of the whole batch, of `width` numbers a row.
  template <class T>
  T* at(T* whole, Index width) const {
    return whole ? whole + first * time * width : nullptr;
  }
  /// Rows of the batch before this part, and before this pass where the batch is cut into several.
  Index rows_before() const { return (before + first) * time; }
  /// Where this part begins in an array of all of that batch.
  template <class T>
  T* of_batch(T* all, Index width) const {
    return all ? all + rows_before() * width : nullptr;
  }
  /// Where the pictures of this part begin among those of all of that batch, of `size` numbers each.
  template <class T>
  const T* of_images(const T* all, Index size) const {
    return all + (before + first) * size;
  }
  /// Sequences of the larger batch before this part: what is drawn for one does not know how the batch was cut.
  Index sequences_before() const { return origin + before + first; }
  /// Elements of an array of all of that batch before this part: where its dropout stream goes on.
  std::uint64_t elements_before(Index width) const {
    return static_cast<std::uint64_t>(sequences_before() * time * width);
  }
  /// A pass of its own over these sequences of the batch. Gradients are final in the last one alone.
  Pass group(Index begin, Index sequences) const {
    Pass result = *this;
    result.before = begin;
    result.batch = sequences;
    if (begin + sequences < batch) result.final_from = nullptr;
    if (documents) result.documents += begin * time;
    return result;
  }
  /// Of a pass over the whole batch.
  Pass part(Index begin, Index sequences) const {
    Pass result = *this;
    result.first = begin;
    result.batch = sequences;
    result.positions.data += begin * positions.sequence;
    if (begins) result.begins += begin * time;
    return result;
  }
  /// The random stream of one dropout site.
  std::uint64_t stream(Index site) const {
    const Philox4 w = philox(seed, step, micro << 32 | static_cast<std::uint64_t>(site));
    return std::uint64_t{w[0]} << 32 | w[1];
  }
};

/// Where a layer stands: names for parameters and reports.
struct Site {
  std::string name;
  Index layer = -1;

  Site operator/(const std::string& part) const { return {name + "." + part, layer}; }
  /// Pass::see of a tensor (B, T, width) of this layer.
  template <class T, class Take = NoOperands>
  void see(const Pass& pass, const char* phase, const char* op, const char* tensor, T* x, Index width,
           const Take& take = {}) const {
    pass.see(phase, layer, op, name, tensor, x, {pass.batch, pass.time, width}, take);
  }
  /// Of an operation that was recomputed, to the same bits: its flags are those of the first time.
  template <class T>
  void recomputed(const Pass& pass, const char* op, const char* tensor, const T* x, Index width) const {
    if (pass.flags) pass.flags->check("forward", layer, op, name, tensor, x, pass.rows() * width);
  }
  /// A parameter of this layer; mean and standard deviation of its initial values.
  template <class T>
  Parameter<T>* add(ParameterSet<T>& set, const char* tensor, std::vector<Index> shape, double mean, double std) const {
    return set.add(name + "." + tensor, std::move(shape), mean, std, layer);
  }
};

}  // namespace loopos
