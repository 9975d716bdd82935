// The head: logits = x Wᵀ + b (W tied to the token embedding, or its own; most have no b), and its loss, fused over tiles of
// rows so that (N, V) logits need not exist in training, neither its own nor a teacher's.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "layers/projection.h"
#include "layers/teaching.h"
#include "ops/add.h"
#include "ops/column_sums.h"
#include "ops/cross_entropy.h"

namespace loopos {

struct LossSum {
  double sum = 0;  // over the rows that count
  Index count = 0;
};

template <class T>
class Head {
 public:
  using Of = typename Between<T>::Of;
  Head() = default;
  /// Its weight is another's, or its own, with a bias or without, of this name.
  Head(const Weight<T>& tied, Index vocab, Index width) : vocab_(vocab), width_(width), weight_(tied) {}
  Head(ParameterSet<T>& set, const std::string& name, Index vocab, Index width, double std, WeightUse use,
       bool bias = false)
      : vocab_(vocab), width_(width), weight_(set, name + ".weight", vocab, width, std, Index{-1}, use) {
    if (bias) bias_ = set.add(name + ".bias", {vocab}, 0, 0);
  }

  const Weight<T>& weight() const { return weight_; }
  bool trains() const { return weight_.trains() || (bias_ && bias_->trainable); }
  Index size() const { return weight_.size(); }
  void visit_weights(const WeightVisitor<T>& visitor) { weight_.visit(visitor); }

  /// Rows whose logits are held at once, of a pass over this many; and whether that is all of them.
  Index tile(Index rows) const {
    const Index number = static_cast<Index>(sizeof(T)),
                bytes = std::clamp(size() / 2 * number, kTileBytes, kMostTileBytes),
                most = std::max(kTileRows, bytes / number / vocab_),
                tiles = std::max<Index>(1, (rows + most - 1) / most);
    return (rows + tiles - 1) / tiles;  // even ones: a last one of a few rows would be slow
  }
  bool one_tile(Index rows) const { return tile(rows) == rows; }
  /// Whether parts of a pass over this many rows give its bits.
  bool can_part(Index rows) const {
    const bool alike = kernels::same_when_packed(weight_.precision(), rows, width_, vocab_) &&
                       kernels::same_when_packed(weight_.precision(), rows, vocab_, width_);
    return alike && one_tile(rows);
  }

  /// Without a loss the logits go where the caller wants them.
  void plan(Arena<T>& arena, const Pass& pass) {
    logits_ = pass.scored ? arena.take(tile(pass.rows()) * vocab_) : nullptr;
    teacher_ = pass.compared ? arena.take(tile(pass.rows()) * vocab_) : nullptr;
    lse_ = pass.scored ? take_rows(arena, pass, 1) : Rows<T>{};
  }
  /// Room for the losses of a batch, which may be cut into several passes.
  void plan_losses(const Pass& batch) {
    given_ = nullptr;
    losses_.resize(static_cast<std::size_t>(batch.rows()));
    kept_.resize(batch.compared ? losses_.size() : 0);
  }

  /// logits (rows, V).
  void forward(const Pass& pass, const T* x, T* logits) {
    weight_.forward(pass, x, bias(), pass.rows(), logits, nullptr);
  }
  /// Targets (rows); total() gives their sum. With dx: also the gradient of the losses, each times its scale, by x
  /// (overwritten). Where one tile holds the whole batch, as it must for a part, parameter_gradients is to follow; else
  /// that of the weight is accumulated at once. Without logits, which a pass that is not scored has no room for, rows
  /// alone are compared.
  void loss(const Pass& pass, const T* x, const Index* targets, const Scoring<T>& how, T* dx) {
    const Index begin = pass.first * pass.time;  // rows of the batch before this part
    const bool keep = one_tile(begin + pass.rows());
    const Index step = keep || !pass.scored ? pass.rows() : tile(pass.rows());
    for (Index first = 0; first < pass.rows(); first += step) {
      Tile tile;
      tile.first = first;
      tile.rows = std::min(step, pass.rows() - first);
      tile.at = pass.rows_before() + first;
      const Index place = keep ? begin * vocab_ : 0;
      if (pass.scored) tile.logits = logits_ + place;
      if (pass.compared) tile.teacher = teacher_ + place;
      if (pass.scored) tile.lse = lse_.at(pass) + first;
      score(pass, x + first * width_, targets + first, how, tile);
      if (!dx) continue;
      if (pass.scored) {
        differentiate(pass, targets + first, how, tile);
        weight_.backward(pass, tile.logits, tile.rows, dx + first * width_);
        if (!keep) gradients(tile.logits, x + first * width_, tile.rows);
        see_dx(pass, tile.logits, tile, dx);
      }
      if (how.teaching && !how.teaching->head)
        pull(pass, x + first * width_, targets + first, how, tile, dx + first * width_);
    }
  }

  /// Of a loss that is worked out elsewhere: fills what it is a function of.
  void give(const Pass& pass, const T* x, const Index* targets, const CrossEntropyOptions& options,
            const Between<T>& between) {
    if (between.of == Of::losses) return loss(pass, x, targets, {options}, nullptr);
    if (between.of == Of::logits) return forward(pass, x, pass.of_batch(between.values, vocab_));
    std::copy_n(x, pass.rows() * width_, pass.of_batch(between.values, width_));
  }
  /// Its gradient by all of that, in the order of the batch's rows. For backward, until the next plan_losses.
  void take(Of of, const T* gradient) {
    given_of_ = of;
    given_ = gradient;
  }
  /// The gradient by x, overwritten. parameter_gradients is to follow, as after loss.
  void backward(const Pass& pass, const T* x, const Index* targets, const CrossEntropyOptions& options, T* dx) {
    if (given_of_ == Of::losses) return loss(pass, x, targets, {options, given_, 1}, dx);
    if (given_of_ == Of::logits) {
      const T* dlogits = pass.of_batch(given_, vocab_);
      weight_.backward(pass, dlogits, pass.rows(), dx);
      return see_dx(pass, dlogits, {0, pass.rows()}, dx);
    }
    std::copy_n(pass.of_batch(given_, width_), pass.rows() * width_, dx);
    pass.see("backward", -1, "loss", "", "final.dx", dx, {pass.batch, pass.time, width_});
  }

  /// Of the whole batch, x as it was given to loss or give. Without logits there is none.
  void parameter_gradients(const Pass& pass, const T* x) {
    const bool given = given_ && given_of_ == Of::logits;
    if (!trains() || !(given || pass.scored)) return;
    const bool kept = given || one_tile(pass.rows());  // else the gradients of the logits are no longer there
    const T* dlogits = given ? pass.of_batch(given_, vocab_) : logits_;
    if (kept) gradients(dlogits, x, pass.rows());
    if (weight_.trains())
      pass.see_gradient("linear", weight_.parameter(), [&](Operands& o) {
        if (kept) linear_weight_gradient_operands(o, dlogits, x, pass.rows(), width_, vocab_);
      });
    if (bias_ && bias_->trainable)
      pass.see_gradient("linear", *bias_, [&](Operands& o) {
        if (kept) column_sums_operands(o, dlogits, pass.rows(), vocab_);
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
  // Of logits at most, but for so few rows that the products would be slow: half as many bytes as the weight has, within
  // these bounds. Each tile reads the weight twice and reads and writes its gradient: at 16 MB the head of gpt2-124M moved
  // 2 GB more in a step of 256 tokens.
  static constexpr Index kTileBytes = Index{16} << 20, kMostTileBytes = Index{64} << 20;
  static constexpr Index kTileRows = 16;

  /// Rows `first` to `first` + `rows` of a pass, the first of which is row `at` of the batch.
  struct Tile {
    Index first = 0, rows = 0, at = 0;
    T *logits = nullptr, *teacher = nullptr, *lse = nullptr;
  };

  /// The losses of a tile. x and targets begin with it.
  void score(const Pass& pass, const T* x, const Index* targets, const Scoring<T>& how, const Tile& tile) {
    double* losses = losses_.data() + tile.at;
    const Teaching<T>* teaching = how.teaching;
    if (pass.scored) {
      weight_.forward(pass, x, bias(), tile.rows, tile.logits, nullptr);
      see(pass, "forward", "linear", "logits", tile.logits, tile,
          [&](Operands& o) { weight_.operands(o, x - tile.first * width_, bias()); });
    }
    if (how.cross_entropy() > 0) {
      cross_entropy_forward(tile.logits, targets, tile.rows, vocab_, how.options, losses, tile.lse);
      see_losses(pass, "cross_entropy", losses, tile,
                 [&](Operands& o, Index r) { cross_entropy_operands(o, tile.logits, targets[r], r, vocab_); });
    }
    if (!teaching) return;
    const T* hidden = teaching->hidden + tile.at * teaching->width;
    if (!teaching->head) {
      row_loss_forward(teaching->rows, x, hidden, {targets, how.options.ignore_index}, tile.rows, width_,
                       teaching->blend(), losses);
      see_losses(pass, row_loss_name(teaching->rows), losses, tile,
                 [&](Operands& o, Index r) { row_loss_operands(o, x, hidden, r, width_); });
      return;
    }
    Pass plain = pass;
    plain.packed = false;  // a weight of another model is not
    teaching->head->forward(plain, hidden, nullptr, tile.rows, tile.teacher, nullptr);
    see(pass, "forward", "linear", "teacher.logits", tile.teacher, tile,
        [&](Operands& o) { teaching->head->operands(o, hidden - tile.first * teaching->width, nullptr); });
    kl_forward(tile.logits, tile.teacher, tile.rows, vocab_, kl_options(targets, how), teaching->blend(), losses,
               kept_.data() + tile.at);
    see_losses(pass, "kl", losses, tile, [&](Operands& o, Index r) {
      kl_operands(o, tile.logits, tile.teacher, r, vocab_, kl_options(targets, how));
    });
  }

  /// The gradient of the losses by the logits, over the logits.
  void differentiate(const Pass& pass, const Index* targets, const Scoring<T>& how, const Tile& tile) {
    const Teaching<T>* teaching = how.teaching;
    const bool taught = teaching && teaching->head, targeted = how.cross_entropy() > 0;
    const KlRow<T>* kept = kept_.data() + tile.at;
    if (taught) {
      const double scale = static_cast<double>(*how.scale) * teaching->weight;
      T* where = targeted ? tile.teacher : tile.logits;
      kl_backward(scale, tile.logits, tile.teacher, kept, tile.rows, vocab_, kl_options(targets, how), where);
      see(pass, "backward", "kl", targeted ? "teacher.dlogits" : "dlogits", where, tile,
          [&](Operands& o) { kl_backward_operands(o, scale, kept, o.row() - tile.first, kl_options(targets, how)); });
    }
    if (!targeted) return;
    const T once = static_cast<T>(static_cast<double>(*how.scale) * how.cross_entropy());
    const T* scale = how.stride ? how.scale + tile.at : &once;
    cross_entropy_backward(scale, how.stride, tile.logits, targets, tile.lse, tile.rows, vocab_, how.options,
                           tile.logits);
    see(pass, "backward", "cross_entropy", "dlogits", tile.logits, tile, [&](Operands& o) {
      const Index r = o.row() - tile.first;
      cross_entropy_backward_operands(o, scale[r * how.stride], targets[r], tile.lse, r);
    });
    if (!taught) return;
    add_forward(tile.logits, tile.teacher, tile.rows * vocab_, tile.logits);
    see(pass, "backward", "add", "both.dlogits", tile.logits, tile, NoOperands{});
  }

  /// Adds the gradient of rows that are compared by x to dx; without logits it is all of it.
  void pull(const Pass& pass, const T* x, const Index* targets, const Scoring<T>& how, const Tile& tile, T* dx) {
    const Teaching<T>& teaching = *how.teaching;
    const T* hidden = teaching.hidden + tile.at * teaching.width;
    const double scale = static_cast<double>(*how.scale) * teaching.weight;
    row_loss_backward(teaching.rows, scale, x, hidden, {targets, how.options.ignore_index}, tile.rows, width_, dx,
                      pass.scored);
    pass.see(
        "backward", -1, row_loss_name(teaching.rows), "", "final.dx", dx, {pass.batch, pass.time, width_},
        [&](Operands& o) { row_loss_operands(o, x, hidden, o.row() - tile.first, width_); }, tile.first * width_,
        tile.rows * width_);
  }

  static KlOptions kl_options(const Index* targets, const Scoring<T>& how) {
    return {how.teaching->temperature, {targets, how.options.ignore_index}};
  }

  /// Rows of a tensor (batch, time, V).
  template <class Take>
  void see(const Pass& pass, const char* phase, const char* op, const char* tensor, T* x, const Tile& tile,
           const Take& take) const {
    pass.see(phase, -1, op, "", tensor, x, {pass.batch, pass.time, vocab_}, take, tile.first * vocab_,
             tile.rows * vocab_);
  }
  /// take(operands, row of the tile)
  template <class Take>
  void see_losses(const Pass& pass, const char* op, double* losses, const Tile& tile, const Take& take) const {
    pass.see(
        "forward", -1, op, "", "loss", losses, {pass.batch, pass.time},
        [&](Operands& o) { take(o, o.row() * pass.time + o.column() - tile.first); }, tile.first, tile.rows);
  }
  void see_dx(const Pass& pass, const T* dlogits, const Tile& tile, T* dx) const {
    pass.see(
        "backward", -1, "linear", "", "lm_head.dx", dx + tile.first * width_, {pass.batch, pass.time, width_},
        [&](Operands& o) { weight_.backward_operands(o, dlogits, tile.first); }, tile.first * width_,
        tile.rows * width_);
  }

  const T* bias() const { return bias_ ? bias_->value : nullptr; }
  /// Adds to the gradients of weight and bias what these rows give.
  void gradients(const T* dlogits, const T* x, Index rows) {
    if (weight_.trains()) weight_.gradient(dlogits, x, rows);
    if (bias_ && bias_->trainable) add_column_sums(dlogits, rows, vocab_, vocab_, bias_->sum());
  }

  Index vocab_ = 0, width_ = 0;
  Weight<T> weight_;
  Parameter<T>* bias_ = nullptr;
  T *logits_ = nullptr, *teacher_ = nullptr;
  const T* given_ = nullptr;  // the gradient of a loss that was worked out elsewhere, and by what
  Of given_of_ = Of::hidden;
  Rows<T> lse_;
  std::vector<double> losses_;
  std::vector<KlRow<T>> kept_;  // of rows whose logits are compared with a teacher's
};

}  // namespace loopos
