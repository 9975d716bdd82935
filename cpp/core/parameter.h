// A model's parameters: named tensors in one flat buffer, their gradients in another of the same layout, so that
// optimizer, clipping, checkpoint and health each need one traversal.
#pragma once

#include <algorithm>
#include <cstring>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "core/buffer.h"
#include "core/memory.h"
#include "core/philox.h"
#include "core/thread_pool.h"

namespace loopos {

template <class T>
struct Parameter {
  std::string name;
  std::vector<Index> shape;
  double init_mean = 0, init_std = 0;  // normal(mean, std); std 0 is a constant
  Index size = 0, offset = 0;
  T* value = nullptr;
  T* grad = nullptr;   // null until gradients are allocated
  bool stale = false;  // grad holds what an earlier update left, and counts as zero

  /// grad, to be added to.
  T* sum() {
    if (take_stale())
      parallel_blocks(size, 1 << 16, [&](Index begin, Index end) { std::fill(grad + begin, grad + end, T(0)); });
    return grad;
  }
  /// Whether grad is to be overwritten rather than added to, by whoever asks: saves a large tensor two traversals.
  bool take_stale() { return std::exchange(stale, false); }
};

template <class T>
class ParameterSet {
 public:
  /// The reference stays valid. Order of calls is order of execution and of everything that walks the parameters.
  Parameter<T>* add(std::string name, std::vector<Index> shape, double mean, double std) {
    Parameter<T> p;
    p.name = std::move(name);
    p.shape = std::move(shape);
    p.init_mean = mean;
    p.init_std = std;
    double count = 1;
    for (Index n : p.shape) count *= static_cast<double>(n);
    bytes_ += count * sizeof(T) + kAlignment;
    list_.push_back(std::move(p));
    return &list_.back();
  }

  /// Places every tensor (64-byte aligned) and draws initial values: element i of tensor j is a function of (seed, j,
  /// i) alone, drawn as float32 for either dtype.
  void allocate(std::uint64_t seed) {
    require_memory("a model of this configuration", 2 * bytes_);  // weights and gradients
    for (auto& p : list_) {
      p.size = 1;
      for (Index n : p.shape) p.size *= n;
      p.offset = total_;
      total_ += (p.size + kPadding - 1) / kPadding * kPadding;
    }
    values_ = Buffer<T>(total_);
    std::memset(values_.data(), 0, sizeof(T) * static_cast<std::size_t>(total_));
    std::uint64_t tensor = 0;
    for (auto& p : list_) {
      p.value = values_.data() + p.offset;
      initialise(p, seed, tensor++);
    }
  }

  void allocate_gradients() {
    if (grads_.size() == total_) return;
    grads_ = Buffer<T>(total_);
    std::memset(grads_.data(), 0, sizeof(T) * static_cast<std::size_t>(total_));
    for (auto& p : list_) p.grad = grads_.data() + p.offset;
  }
  /// From now on the gradients count as zero; zero_stale() makes them so where nothing has come since.
  void discard_gradients() {
    for (auto& p : list_) p.stale = true;
  }
  void zero_stale() {
    for (auto& p : list_) p.sum();
  }
  /// Gives the gradients elsewhere for a while (tracing must not disturb what is accumulated).
  void swap_gradients(Buffer<T>& other) {
    std::swap(grads_, other);
    for (auto& p : list_) p.grad = grads_.size() ? grads_.data() + p.offset : nullptr;
  }

  std::deque<Parameter<T>>& list() { return list_; }
  const std::deque<Parameter<T>>& list() const { return list_; }
  Index total() const { return total_; }
  T* gradients() { return grads_.data(); }

 private:
  static constexpr Index kPadding = kAlignment / sizeof(T);

  static void initialise(Parameter<T>& p, std::uint64_t seed, std::uint64_t tensor) {
    parallel_blocks(p.size, 1 << 14, [&](Index begin, Index end) {  // an even block, so that pairs stay whole
      for (Index i = begin; i < end; i += 2) {
        const auto pair = p.init_std > 0 ? normal_pair(philox(seed, static_cast<std::uint64_t>(i / 2), tensor))
                                         : std::array<double, 2>{};
        for (Index j = 0; j < 2 && i + j < end; ++j)
          p.value[i + j] =
              static_cast<T>(static_cast<float>(p.init_mean + p.init_std * pair[static_cast<std::size_t>(j)]));
      }
    });
  }

  std::deque<Parameter<T>> list_;
  Buffer<T> values_, grads_;
  Index total_ = 0;
  double bytes_ = 0;
};

}  // namespace loopos
