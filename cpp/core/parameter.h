// A model's parameters: named tensors in one flat buffer, the gradients of the trainable ones in another, in the same
// order, so that optimizer, clipping, checkpoint and health each need one traversal.
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
  Index size = 0, offset = 0;
  T* value = nullptr;
  bool trainable = true;  // false: frozen. It has no gradient, and no optimizer touches it
  T* grad = nullptr;      // null when frozen, and until gradients are allocated
  bool stale = false;     // grad holds what an earlier update left, and counts as zero

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

  /// The reference stays valid. Order of calls is order of execution and of everything that walks the parameters.
  Parameter<T>* add(std::string name, std::vector<Index> shape, double mean, double std, Index layer = -1) {
    Parameter<T> p;
    p.name = std::move(name);
    p.layer = layer;
    p.shape = std::move(shape);
    p.init_mean = mean;
    p.init_std = std;
    p.number = next_++;
    double count = 1;
    for (Index n : p.shape) count *= static_cast<double>(n);
    bytes_ += count * sizeof(T) + kAlignment;
    list_.push_back(std::move(p));
    return &list_.back();
  }

  /// Places every tensor (64-byte aligned) and draws initial values: element i of tensor j is a function of (seed, j,
  /// i) alone, drawn as float32 for either dtype. Without a seed the values are whatever was in memory, and whoever made
  /// the model writes them.
  void allocate(std::optional<std::uint64_t> seed) {
    require_memory("a model of this configuration", 2 * bytes_);  // weights and gradients
    for (auto& p : list_) {
      p.size = 1;
      for (Index n : p.shape) p.size *= n;
      p.offset = total_;
      total_ += padded(p.size);
    }
    values_ = Buffer<T>(total_);
    for (auto& p : list_) {
      p.value = values_.data() + p.offset;
      std::fill(p.value + p.size, p.value + padded(p.size), T(0));
      if (seed) draw_initial(*seed, p.number, p.init_mean, p.init_std, 0, p.size, p.value);
    }
  }

  /// Frozen or trainable. What gradients there were is given up when that changes.
  void set_trainable(Parameter<T>& p, bool trainable) {
    if (p.trainable == trainable) return;
    p.trainable = trainable;
    ++selection_;
    grads_ = std::make_shared<Buffer<T>>();
    point_gradients();
  }
  /// Another number whenever another set of parameters is trainable.
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
  /// Gives the gradients elsewhere for a while (tracing must not disturb what is accumulated).
  void swap_gradients(std::shared_ptr<Buffer<T>>& other) {
    std::swap(grads_, other);
    point_gradients();
  }

  std::deque<Parameter<T>>& list() { return list_; }
  const std::deque<Parameter<T>>& list() const { return list_; }
  /// All gradients in one array; zeros stand between the tensors. Shared, as views of it may live on in Python.
  const std::shared_ptr<Buffer<T>>& gradients() const { return grads_; }

 private:
  static Index padded(Index size) {
    constexpr Index kStep = kAlignment / sizeof(T);
    return (size + kStep - 1) / kStep * kStep;
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
  Buffer<T> values_;
  std::shared_ptr<Buffer<T>> grads_ = std::make_shared<Buffer<T>>();
  Index total_ = 0, selection_ = 0;
  std::uint64_t next_ = 0;
  double bytes_ = 0;
};

}  // namespace loopos
