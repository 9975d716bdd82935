// The language-model head: logits = x Wᵀ (W tied to the token embedding, or its own), and its loss, fused over tiles of
// rows so that (N, V) logits need not exist in training.
#pragma once

#include <algorithm>
#include <limits>

#include "layers/projection.h"
#include "ops/cross_entropy.h"

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
  Head(ParameterSet<T>& set, const Weight<T>* tied, Index vocab, Index width, double std)
      : vocab_(vocab),
        width_(width),
        weight_(tied ? *tied : Weight<T>(set, "lm_head.weight", vocab, width, std, Index{-1})) {}

  bool trains() const { return weight_.trains(); }
  Index size() const { return weight_.size(); }
  void visit_weights(const WeightVisitor<T>& visitor) { weight_.visit(visitor); }

  /// Rows whose logits are held at once, of a pass over this many; and whether that is all of them.
  Index tile(Index rows) const {
    return std::min(rows, std::max(kTileRows, kTileBytes / static_cast<Index>(sizeof(T)) / vocab_));
  }
  bool one_tile(Index rows) const { return tile(rows) == rows; }

  /// Without a loss the logits go where the caller wants them.
  void plan(Arena<T>& arena, const Pass& pass) {
    logits_ = pass.scored ? arena.take(tile(pass.rows()) * vocab_) : nullptr;
    lse_ = pass.scored ? take_rows(arena, pass, 1) : Rows<T>{};
  }
  /// Room for the losses of a batch, which may be cut into several passes.
  void plan_losses(Index rows) { losses_.resize(static_cast<std::size_t>(rows)); }

  /// logits (rows, V).
  void forward(const Pass& pass, const T* x, T* logits) {
    weight_.forward(pass, x, nullptr, pass.rows(), logits, nullptr);
  }

  /// Targets (rows); total() gives their sum. With dx: also the gradient scale * d(sum)/dx (overwritten). Where
  /// one tile holds the whole batch, as it must for a part, parameter_gradients is to follow; else that of the weight
  /// is accumulated at once.
  void loss(const Pass& pass, const T* x, const Index* targets, const CrossEntropyOptions& options, T scale, T* dx) {
    const Index begin = pass.first * pass.time;  // rows of the batch before this part
    const bool keep = one_tile(begin + pass.rows());
    const Index step = keep ? pass.rows() : tile(pass.rows());
    for (Index first = 0; first < pass.rows(); first += step) {
      const Index rows = std::min(step, pass.rows() - first);
      T* logits = keep ? logits_ + begin * vocab_ : logits_;
      T* lse = lse_.at(pass) + first;
      double* losses = losses_.data() + pass.before * pass.time + begin + first;
      weight_.forward(pass, x + first * width_, nullptr, rows, logits, nullptr);
      see(pass, "forward", "linear", "logits", logits, first, rows,
          [&](Operands& o) { weight_.operands(o, x, nullptr); });
      cross_entropy_forward(logits, targets + first, rows, vocab_, options, losses, lse);
      pass.see(
          "forward", -1, "cross_entropy", "", "loss", losses, {pass.batch, pass.time},
          [&](Operands& o) {
            const Index r = o.row() * pass.time + o.column();
            cross_entropy_operands(o, logits, targets[r], r - first, vocab_);
          },
          first, rows);
      if (!dx) continue;
      cross_entropy_backward(&scale, Index{0}, logits, targets + first, lse, rows, vocab_, options, logits);
      see(pass, "backward", "cross_entropy", "dlogits", logits, first, rows,
          [&](Operands& o) { cross_entropy_backward_operands(o, scale, targets[o.row()], lse, o.row() - first); });
      weight_.backward(pass, logits, rows, dx + first * width_);
      if (!keep) weight_gradient(logits, x + first * width_, rows);
      pass.see(
          "backward", -1, "linear", "", "lm_head.dx", dx + first * width_, {pass.batch, pass.time, width_},
          [&](Operands& o) { weight_.backward_operands(o, logits, first); }, first * width_, rows * width_);
    }
  }

  /// Of the whole batch, x as it was given to loss.
  void parameter_gradients(const Pass& pass, const T* x) {
    if (!trains()) return;
    const bool kept = one_tile(pass.rows());  // else the gradients of the logits are no longer there
    if (kept) weight_gradient(logits_, x, pass.rows());
    pass.see_gradient("linear", weight_.parameter(), [&](Operands& o) {
      if (kept) linear_weight_gradient_operands(o, logits_, x, pass.rows(), width_, vocab_);
    });
  }

  /// Of the last loss() of a batch, row by row; 0 where the target does not count.
  const std::vector<double>& losses() const { return losses_; }

  /// Of the whole batch, in the order of its rows.
  LossSum total(const Pass& pass, const Index* targets, Index ignore_index) const {
    LossSum result;
    for (Index r = 0; r < pass.rows(); ++r) {
      result.sum += losses_[static_cast<std::size_t>(r)];
      result.count += targets[r] != ignore_index;
    }
    return result;
  }

 private:
  static constexpr Index kTileBytes = Index{64} << 20;  // of logits at most, but for
  static constexpr Index kTileRows = 16;                // so few rows that the products would be slow

  void weight_gradient(const T* dlogits, const T* x, Index rows) {
    if (trains()) weight_.gradient(dlogits, x, rows);
  }

  /// Rows `first` to `first` + `rows` of a tensor (batch, time, V).
  template <class Take>
  void see(const Pass& pass, const char* phase, const char* op, const char* tensor, T* x, Index first, Index rows,
           const Take& take) const {
    pass.see(phase, -1, op, "", tensor, x, {pass.batch, pass.time, vocab_}, take, first * vocab_, rows * vocab_);
  }

  Index vocab_ = 0, width_ = 0;
  Weight<T> weight_;
  T* logits_ = nullptr;
  Rows<T> lse_;
  std::vector<double> losses_;
};

}  // namespace loopos
