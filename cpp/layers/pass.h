// What every layer is told about one pass through the model, and where its memory comes from.
//
// A pass may be over a part of the batch: whole sequences, so that several threads each take their own through all
// layers. Pointers that a layer is given are those of the part; what it keeps itself is of the whole batch (Pass::at).
// forward and backward of a layer run on parts; parameter_gradients runs on the whole, when every part is through.
#pragma once

#include <functional>
#include <string>

#include "core/buffer.h"
#include "core/memory.h"
#include "core/philox.h"
#include "trace/flags.h"
#include "trace/probe.h"

namespace loopos {

struct Pass {
  Index batch = 0, time = 0;
  Index first = 0;      // sequences of the whole batch before this part
  bool packed = false;  // the weights' panels are packed
  Index start = 0;      // position of the first token: > 0 when generation continues from its cache
  Index cached = 0;     // time axis of the key/value cache; 0: none
  double dropout = 0;
  std::uint64_t seed = 0, step = 0, micro = 0;  // dropout is keyed by these and the site
  Probe* probe = nullptr;       // with one, the batch is one part and nothing is fused: every tensor exists
  FlagRecord* flags = nullptr;  // where operations that raise one are written down

  static Pass whole(Index batch, Index time) {
    Pass result;
    result.batch = batch;
    result.time = time;
    return result;
  }
  Index rows() const { return batch * time; }
  bool looking() const { return probe && probe->looking(); }
  /// What a layer says when an operation is done: it gave x, the tensor site.tensor of this shape or `count` elements
  /// of it from `first`. take(operands) says what made an element.
  template <class T, class Take = NoOperands>
  void see(const char* phase, Index layer, const char* op, const std::string& site, const char* tensor, T* x,
           const Extents& shape, const Take& take = {}, Index first = 0, Index count = -1) const {
    if (probe) probe->see(phase, layer, op, site.empty() ? tensor : site + "." + tensor, x, shape, take, first, count);
    if (flags) flags->check(phase, layer, op, site, tensor, x, count < 0 ? shape.size() : count);
  }
  /// Where this part begins in an array of the whole batch, of `width` numbers a row.
  template <class T>
  T* at(T* whole, Index width) const {
    return whole ? whole + first * time * width : nullptr;
  }
  /// Elements of such an array before this part: where its dropout stream goes on.
  std::uint64_t elements_before(Index width) const { return static_cast<std::uint64_t>(first * time * width); }
  Pass part(Index begin, Index sequences) const {
    Pass result = *this;
    result.first = begin;
    result.batch = sequences;
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

  Site operator/(const char* part) const { return {name + "." + part, layer}; }
  /// Pass::see of a tensor of this layer.
  template <class T, class Take = NoOperands>
  void see(const Pass& pass, const char* phase, const char* op, const char* tensor, T* x, const Extents& shape,
           const Take& take = {}) const {
    pass.see(phase, layer, op, name, tensor, x, shape, take);
  }
  /// Of an operation done again, to the same bits: its flags are those of the first time.
  template <class T>
  void again(const Pass& pass, const char* phase, const char* op, const char* tensor, const T* x, Index n) const {
    if (pass.flags) pass.flags->check(phase, layer, op, name, tensor, x, n);
  }
};

template <class T>
struct Parameter;
template <class T>
struct PackedWeight;
/// Called with every weight (out, in) that is a factor of products: its parameter, in, out, and its panels.
template <class T>
using WeightVisitor = std::function<void(Parameter<T>*, Index, Index, PackedWeight<T>*)>;

/// One block of memory dealt out in order. Planning runs twice: first to measure, then to hand out pointers.
template <class T>
class Arena {
 public:
  T* take(Index n) {
    const Index at = used_;
    used_ += (n + kStep - 1) / kStep * kStep;
    peak_ = std::max(peak_, used_);
    return memory_.data() ? memory_.data() + at : nullptr;
  }
  Index mark() const { return used_; }
  void release(Index mark) { used_ = mark; }  // what was taken since may be handed out again

  /// Runs plan(arena) to measure, allocates, runs it again to hand out. Memory is kept when it suffices.
  template <class Plan>
  void arrange(Plan&& plan) {
    Buffer<T> kept = std::move(memory_);
    memory_ = Buffer<T>();
    used_ = peak_ = 0;
    plan(*this);
    if (kept.size() < peak_) {
      const Index need = peak_;
      kept = Buffer<T>();
      require_memory("the workspace of this batch", static_cast<double>(need) * sizeof(T));
      kept = Buffer<T>(need);
    }
    memory_ = std::move(kept);
    used_ = 0;
    plan(*this);
  }

 private:
  static constexpr Index kStep = kAlignment / sizeof(T);
  Buffer<T> memory_;
  Index used_ = 0, peak_ = 0;
};

}  // namespace loopos
