// A model's parameters: named tensors in one flat buffer, the gradients of the trainable ones in another, in the same
// order, so that optimizer, clipping, checkpoint and health each need one traversal. What is added to a finished model
// (an adapter's matrices) lies in a buffer of its own behind it and can be dropped again.
#pragma once

#include <algorithm>
#include <cstring>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/buffer.h"
#include "core/memory.h"
#include "core/philox.h"
#include "core/precision.h"
#include "core/stored_weight.h"
#include "core/thread_pool.h"

namespace loopos {

template <class T>
struct Parameter {
  std::string name;
  std::vector<Index> shape;
  double init_mean = 0, init_std = 0;  // normal(mean, std); std 0 is a constant
  Index layer = -1;                    // number of its block; -1: outside blocks
  std::uint64_t number = 0;            // in the order of execution, those that are stored small counted too
  Index size = 0;
  T* value = nullptr;                 // in `values`; null until it is placed
  std::shared_ptr<Buffer<T>> values;  // shared, as views of it may live on in Python when it is dropped
  bool trainable = true;              // false: frozen. It has no gradient, and no optimizer touches it
  bool learns = false;                // also beside an adapter, and where the rest is stored small
  T* grad = nullptr;                  // null when frozen, and until gradients are allocated
  bool stale = false;                 // grad holds what an earlier update left, and counts as zero

  /// grad, to be added to.
  T* sum() {
    if (take_stale())
      parallel_blocks(size, 1 << 16, [&](Index begin, Index end) { std::fill(grad + begin, grad + end, T(0)); });
    return grad;
  }
  /// Whether grad is to be overwritten rather than added to, by whoever asks: saves a large tensor two traversals.
  bool take_stale() { return std::exchange(stale, false); }
};

/// Initial values of elements [first, first + count) of a tensor; `first` is even. Element i of tensor j is a function of
/// (seed, j, i) alone.
template <class T>
void draw_initial(std::uint64_t seed, std::uint64_t tensor, double mean, double std, Index first, Index count, T* to) {
  parallel_blocks(count, 1 << 14, [&](Index begin, Index end) {  // an even block, so that pairs stay whole
    for (Index i = begin; i < end; i += 2) {
      const auto pair = std > 0 ? normal_pair(philox(seed, static_cast<std::uint64_t>((first + i) / 2), tensor))
                                : std::array<double, 2>{};
      for (Index j = 0; j < 2 && i + j < end; ++j)
        to[i + j] = static_cast<T>(static_cast<float>(mean + std * pair[static_cast<std::size_t>(j)]));
    }
  });
}

/// weights: the storage of weight matrices and of the token table. One that is stored small is frozen and no parameter:
/// it is in stored(), not in list(), which all traversals walk.
template <class T>
class ParameterSet {
 public:
  explicit ParameterSet(Storage weights = Storage::plain) : storage_(weights) {}

  /// Of products with these weights; what makes the model reads it, and a run may change it between passes.
  Precision precision = Precision::float32;

  Storage storage() const { return storage_; }
  std::deque<StoredWeight>& stored() { return stored_; }
  const std::deque<StoredWeight>& stored() const { return stored_; }
  StoredWeight* add_stored(std::string name, Index out, Index in, double std, Index layer) {
    StoredWeight w;
    w.name = std::move(name);
    w.out = out;
    w.in = in;
    w.init_std = std;
    w.layer = layer;
    w.kind = storage_;
    w.number = next_++;
    stored_.push_back(std::move(w));
    return &stored_.back();
  }

  /// The reference stays valid until it is dropped. Order of calls is order of execution and of everything that walks
  /// the parameters; what is added after allocate() waits for the next one.
  Parameter<T>* add(std::string name, std::vector<Index> shape, double mean, double std, Index layer = -1) {
    Parameter<T> p;
    p.name = std::move(name);
    p.layer = layer;
    p.shape = std::move(shape);
    p.init_mean = mean;
    p.init_std = std;
    p.number = next_++;
    list_.push_back(std::move(p));
    return &list_.back();
  }

  /// Places every tensor that has no place yet (64-byte aligned, in one buffer) and draws its initial values: element i
  /// of tensor j is a function of (seed, j, i) alone, drawn as float32 for either dtype. Without a seed the values are
  /// whatever was in memory, and whoever made the model writes them. `what` is in the sentence that refuses what does not
  /// fit in memory.
  void allocate(std::optional<std::uint64_t> seed, const char* what = "a model of this configuration") {
    double bytes = 0;
    for (const auto& p : list_)
      if (!p.values) bytes += count(p) * sizeof(T) + kAlignment;
    require_memory(what, 2 * bytes);  // weights and gradients
    Index total = 0;
    for (const auto& p : list_)
      if (!p.values) total += padded(static_cast<Index>(count(p)));
    const auto values = std::make_shared<Buffer<T>>(total);
    T* next = values->data();
    for (auto& p : list_) {
      if (p.values) continue;
      p.size = static_cast<Index>(count(p));
      p.value = next;
      p.values = values;
      next += padded(p.size);
      std::fill(p.value + p.size, next, T(0));
      if (seed) draw_initial(*seed, p.number, p.init_mean, p.init_std, 0, p.size, p.value);
    }
    selected_anew();
  }
  /// Forgets the parameters from number `first` of the list on. Where they were placed, gradients are given up.
  void drop(std::size_t first) {
    if (first >= list_.size()) return;
    const bool placed = list_[first].values != nullptr;
    next_ = list_[first].number;
    list_.erase(list_.begin() + static_cast<std::ptrdiff_t>(first), list_.end());
    if (placed) selected_anew();
  }

  /// Frozen or trainable. What gradients there were is given up when that changes.
  void set_trainable(Parameter<T>& p, bool trainable) {
    if (p.trainable == trainable) return;
    p.trainable = trainable;
    selected_anew();
  }
  /// Whether most numbers of the weights are trainable.
  bool mostly_trains() const {
    Index trained = 0, all = 0;
    for (const auto& p : list_) all += p.size, trained += p.trainable ? p.size : 0;
    for (const auto& w : stored_) all += w.in * w.out;
    return 2 * trained > all;
  }
  /// Another number whenever there may be another set of parameters, or of trainable ones.
  Index selection() const { return selection_; }
  /// Zero gradients for the trainable parameters, unless they are there.
  void allocate_gradients() {
    Index total = 0;
    for (const auto& p : list_) total += p.trainable ? padded(p.size) : 0;
    if (grads_->size() == total) return;
    grads_ = std::make_shared<Buffer<T>>(total);
    std::memset(grads_->data(), 0, sizeof(T) * static_cast<std::size_t>(total));
    point_gradients();
  }
  /// From now on the gradients count as zero; zero_stale() makes them so where nothing has come since.
  void discard_gradients() {
    for (auto& p : list_) p.stale = p.trainable;
  }
  void zero_stale() {
    for (auto& p : list_) p.sum();
  }
  /// Where in the buffer those gradients begin that are final once backward has taken block `layer`, whose first
  /// parameter has this number: all from there to the end are of it, of what backward takes before it, or of an adapter
  /// of these.
  Index final_from(Index layer, std::uint64_t first_number) const {
    Index from = grads_->size();
    for (auto p = list_.rbegin(); p != list_.rend(); ++p) {
      if (!p->trainable) continue;
      if (p->stale || p->number < first_number || (p->layer >= 0 && p->layer < layer)) break;
      from = p->grad - grads_->data();
    }
    return from;
  }
  /// Gives the gradients elsewhere for a while (tracing must not disturb what is accumulated).
  void swap_gradients(std::shared_ptr<Buffer<T>>& other) {
    std::swap(grads_, other);
    point_gradients();
  }

  /// Parameter::number of what is added next.
  std::uint64_t next_number() const { return next_; }

  std::deque<Parameter<T>>& list() { return list_; }
  const std::deque<Parameter<T>>& list() const { return list_; }
  /// All gradients in one array; zeros stand between the tensors. Shared, as views of it may live on in Python.
  const std::shared_ptr<Buffer<T>>& gradients() const { return grads_; }

 private:
  static Index padded(Index size) {
    constexpr Index kStep = kAlignment / sizeof(T);
    return (size + kStep - 1) / kStep * kStep;
  }
  /// In double: sizes that no memory holds do not wrap.
  static double count(const Parameter<T>& p) {
    double result = 1;
    for (Index n : p.shape) result *= static_cast<double>(n);
    return result;
  }
  void selected_anew() {
    ++selection_;
    grads_ = std::make_shared<Buffer<T>>();
    point_gradients();
  }
  void point_gradients() {
    T* next = grads_->data();
    for (auto& p : list_) {
      p.grad = next && p.trainable ? next : nullptr;
      if (p.grad) next += padded(p.size);
    }
  }

  Storage storage_;
  std::deque<Parameter<T>> list_;
  std::deque<StoredWeight> stored_;
  std::shared_ptr<Buffer<T>> grads_ = std::make_shared<Buffer<T>>();
  Index selection_ = 0;
  std::uint64_t next_ = 0;
};

}  // namespace loopos
