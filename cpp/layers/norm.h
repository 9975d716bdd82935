// Layer norm or RMS norm over the channels, with weight and (layer norm) optional bias. With a unit offset it
// multiplies by 1 + weight, whose gradient is the weight's.
#pragma once

#include "layers/plan.h"
#include "ops/column_sums.h"
#include "ops/norm_rows.h"
#include "trace/guards.h"

namespace loopos {

struct NormConfig {
  NormChoice choice;
  bool bias;  // of layer norm; rms norm has none
  bool unit_offset;
  double eps;
};

template <class T>
class Norm {
 public:
  Norm() = default;
  Norm(ParameterSet<T>& set, Site site, Index width, const NormConfig& config)
      : site_(std::move(site)), width_(width), config_(config) {
    weight_ = site_.add(set, "weight", {width}, config.unit_offset ? 0 : 1, 0);
    if (config.bias && kind() == NormKind::layer) bias_ = site_.add(set, "bias", {width}, 0, 0);
  }

  bool trains() const { return weight_->trainable || (bias_ && bias_->trainable); }
  Index size() const { return width_; }

  void plan(Arena<T>& arena, const Pass& pass) {
    mean_ = kind() == NormKind::rms ? Rows<T>{} : take_rows(arena, pass, 1);
    rstd_ = take_rows(arena, pass, 1);
  }
  /// Numbers that backward leaves for parameter_gradients; of the whole batch.
  static Index slots_size(const Pass& pass, Index width) {
    return 2 * norm_slots(pass.rows(), pass.time, width) * width;
  }
  /// Where it leaves them: in the workspace, where the gradients are taken at once, or in memory of its own.
  void plan_gradients(Arena<T>& arena, const Pass& pass, const Workspace<T>& work) {
    slots_ = work.slots.width ? work.slots.data : arena.take(slots_size(pass, width_));
  }

  void forward(const Pass& pass, const T* x, T* y) {
    compute(pass, x, y);
    site_.see(pass, "forward", op(), "y", y, width_,
              [&](Operands& o) { norm_operands(o, rows(pass, x), o.row(), o.column()); });
    if (pass.looking()) pass.probe->count_eps_rows(rows_below_eps(rstd_.at(pass), pass.rows(), config_.eps));
  }
  /// Recomputes y, to the same bits, where it was not kept. Its guard has counted the rows already.
  void recompute(const Pass& pass, const T* x, T* y) {
    const GuardsUncounted counted;
    compute(pass, x, y);
    site_.recomputed(pass, op(), "y", y, width_);
  }

  /// x as it was given to forward. dx = the gradient through the norm + dskip, what comes around it (null: nothing; may
  /// be dx itself).
  void backward(const Pass& pass, const T* x, const T* dy, const T* dskip, T* dx) {
    const std::vector<T> skipped = pass.overwritten(dskip, width_);  // dx may take its place
    T* slots = slots_ + 2 * this->slots(pass.first * pass.time, pass.time) * width_;
    norm_backward_rows(kind(), dy, x, factors(), rstd_.at(pass), dskip, pass.rows(), pass.time, width_, dx,
                       weight_->trainable ? slots : nullptr, bias_ && bias_->trainable ? slots + width_ : nullptr,
                       2 * width_);
    site_.see(pass, "backward", op(), "dx", dx, width_, [&](Operands& o) {
      const Index row = o.row() * width_, at = row + o.column();
      norm_backward_operands(o, rows(pass, x), o.row(), o.column(), dy + row, dskip ? skipped.data() + at : nullptr);
    });
  }

  /// Of the whole batch. x, dy: as they were given to backward, for a trace.
  void parameter_gradients(const Pass& pass, const T* x, const T* dy) {
    const Index count = slots(pass.rows(), pass.time);
    if (weight_->trainable) {
      add_column_sums(slots_, count, width_, 2 * width_, weight_->sum());
      pass.see_gradient(op(), *weight_,
                        [&](Operands& o) { norm_weight_gradient_operands(o, rows(pass, x), dy, pass.rows()); });
    }
    if (!bias_ || !bias_->trainable) return;
    add_column_sums(slots_ + width_, count, width_, 2 * width_, bias_->sum());
    pass.see_gradient(op(), *bias_, [&](Operands& o) { column_sums_operands(o, dy, pass.rows(), width_); });
  }

 private:
  const char* op() const { return config_.choice.op; }
  NormKind kind() const { return config_.choice.kind; }
  const T* factors() const { return norm_factors(weight_->value, width_, config_.unit_offset); }
  Index slots(Index rows, Index time) const { return norm_slots(rows, time, width_); }
  NormRows<T> rows(const Pass& pass, const T* x) const {
    return {x, factors(), bias_ ? bias_->value : nullptr, mean_.at(pass), rstd_.at(pass), width_, config_.eps};
  }
  void compute(const Pass& pass, const T* x, T* y) {
    norm_forward(kind(), x, factors(), bias_ ? bias_->value : nullptr, pass.rows(), width_, config_.eps, y,
                 mean_.at(pass), rstd_.at(pass));
  }

  Site site_;
  Index width_ = 0;
  NormConfig config_{};
  Parameter<T>*weight_ = nullptr, *bias_ = nullptr;
  Rows<T> mean_, rstd_;
  T* slots_ = nullptr;
};

}  // namespace loopos
