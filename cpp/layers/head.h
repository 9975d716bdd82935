// The language-model head: logits = x Wᵀ (W tied to the token embedding, or its own), and its loss, fused over tiles of
// rows so that (N, V) logits need not exist in training.
#pragma once

#include <algorithm>
#include <limits>

#include "core/parameter.h"
#include "layers/pass.h"
#include "ops/cross_entropy.h"
#include "ops/linear.h"

namespace loopos {

struct LossSum {
  double sum = 0;  // over the rows that count
  Index count = 0;
};

template <class T>
class Head {
 public:
  Head() = default;
  /// tied: the weight to share, or null for one of its own.
  Head(ParameterSet<T>& set, Parameter<T>* tied, Index vocab, Index width, double std)
      : vocab_(vocab), width_(width), weight_(tied ? tied : set.add("lm_head.weight", {vocab, width}, 0, std)) {}

  void plan(Arena<T>& arena, const Pass& pass) {
    tile_ = std::min(pass.rows(), std::max<Index>(64, kTileElements / vocab_));
    logits_ = arena.take(tile_ * vocab_);
    lse_ = arena.take(tile_);
    losses_.resize(static_cast<std::size_t>(tile_));
  }

  /// logits (rows, V).
  void forward(const Pass& pass, const T* x, T* logits) {
    linear_forward<T>(x, weight_->value, nullptr, pass.rows(), width_, vocab_, logits);
  }

  /// Targets (rows). With dx: also the gradients scale * d(sum)/dx (overwritten) and of the weight (accumulated).
  LossSum loss(const Pass& pass, const T* x, const Index* targets, Index ignore_index, T scale, T* dx) {
    CrossEntropyOptions options;
    options.ignore_index = ignore_index;
    LossSum result;
    for (Index first = 0; first < pass.rows(); first += tile_) {
      const Index rows = std::min(tile_, pass.rows() - first);
      linear_forward<T>(x + first * width_, weight_->value, nullptr, rows, width_, vocab_, logits_);
      see(pass, "forward", "linear", "logits", logits_, first, rows);
      result.count += cross_entropy_forward(logits_, targets + first, rows, vocab_, options, losses_.data(), lse_);
      for (Index r = 0; r < rows; ++r) result.sum += losses_[static_cast<std::size_t>(r)];
      see_losses(pass, first, rows);
      if (!dx) continue;
      cross_entropy_backward(&scale, Index{0}, logits_, targets + first, lse_, rows, vocab_, options, logits_);
      see(pass, "backward", "cross_entropy", "dlogits", logits_, first, rows);
      linear_backward<T>(logits_, x + first * width_, weight_->value, rows, width_, vocab_, dx + first * width_,
                         weight_->grad, nullptr);
    }
    if (pass.probe && dx) {
      pass.probe->see("backward", Index{-1}, "linear", "lm_head.dx", dx, {pass.batch, pass.time, width_});
      pass.probe->see("backward", Index{-1}, "linear", weight_->name, weight_->grad, weight_->shape);
    }
    return result;
  }

 private:
  static constexpr Index kTileElements = Index{1} << 24;  // 64 MB of float logits at most

  /// A tile is seen one row at a time, so that its index is (batch, time, token) like that of the whole.
  void see(const Pass& pass, const char* phase, const char* op, const char* tensor, const T* x, Index first,
           Index rows) const {
    if (!pass.probe || pass.probe->birth().found) return;
    for (Index r = 0; r < rows; ++r)
      pass.probe->see_row(phase, op, tensor, x + r * vocab_, vocab_,
                          {(first + r) / pass.time, (first + r) % pass.time});
  }
  void see_losses(const Pass& pass, Index first, Index rows) const {
    if (!pass.probe) return;
    for (Index r = 0; r < rows; ++r)
      pass.probe->see_row("forward", "cross_entropy", "loss", &losses_[static_cast<std::size_t>(r)], 1,
                          {(first + r) / pass.time, (first + r) % pass.time});
  }

  Index vocab_ = 0, width_ = 0, tile_ = 0;
  Parameter<T>* weight_ = nullptr;
  T *logits_ = nullptr, *lse_ = nullptr;
  std::vector<double> losses_;
};

}  // namespace loopos
