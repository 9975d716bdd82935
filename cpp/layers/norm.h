// Layer norm or RMS norm over the channels, with weight and (layer norm) optional bias.
#pragma once

#include "core/parameter.h"
#include "layers/pass.h"
#include "ops/column_sums.h"
#include "ops/layer_norm.h"
#include "ops/rms_norm.h"

namespace loopos {

template <class T>
class Norm {
 public:
  Norm() = default;
  Norm(ParameterSet<T>& set, Site site, Index width, bool rms, bool bias, double eps)
      : site_(std::move(site)), width_(width), rms_(rms), eps_(eps) {
    weight_ = set.add(site_.name + ".weight", {width}, 1, 0);
    if (bias && !rms) bias_ = set.add(site_.name + ".bias", {width}, 0, 0);
  }

  void plan(Arena<T>& arena, const Pass& pass) {
    mean_ = rms_ ? nullptr : arena.take(pass.rows());
    rstd_ = arena.take(pass.rows());
  }

  /// again: once more, to the same bits, where y was not kept.
  void forward(const Pass& pass, const T* x, T* y, bool again = false) {
    T *mean = pass.at(mean_, 1), *rstd = pass.at(rstd_, 1);
    if (rms_)
      rms_norm_forward(x, weight_->value, pass.rows(), width_, eps_, y, rstd);
    else
      layer_norm_forward(x, weight_->value, bias_ ? bias_->value : nullptr, pass.rows(), width_, eps_, y, mean, rstd);
    if (again) return site_.again(pass, "forward", op(), "y", y, pass.rows() * width_);
    site_.see(pass, "forward", op(), "y", y, {pass.batch, pass.time, width_}, [&](Operands& o) {
      take_row(o, x, o.row());
      o.take("weight", weight_->value + o.column(), 1);
      if (bias_) o.take("bias", bias_->value + o.column(), 1);
    });
    if (!pass.looking()) return;
    Index floored = 0;
    for (Index r = 0; r < pass.rows(); ++r) {
      const double scale = static_cast<double>(rstd[r]);
      floored += 1 / (scale * scale) < 2 * eps_;
    }
    pass.probe->count_eps_rows(floored);
  }

  /// Numbers of `slots`: what backward leaves there for parameter_gradients.
  Index slots(const Pass& pass) const { return 2 * slot_rows(pass.rows(), pass.time) * width_; }

  /// x as it was given to forward. dx = the gradient through the norm + dskip, what comes around it (null: nothing; may
  /// be dx itself). slots: of the whole batch.
  void backward(const Pass& pass, const T* x, const T* dy, const T* dskip, T* dx, T* slots) {
    const Index begin = 2 * slot_rows(pass.first * pass.time, pass.time) * width_;
    std::vector<T> skipped;  // for a trace: dx may take the place of dskip
    if (pass.looking() && dskip) skipped.assign(dskip, dskip + pass.rows() * width_);
    norm_backward_rows(kind(), dy, x, weight_->value, pass.at(rstd_, 1), dskip, pass.rows(), pass.time, width_, dx,
                       slots + begin, bias_ ? slots + begin + width_ : nullptr, 2 * width_);
    site_.see(pass, "backward", op(), "dx", dx, {pass.batch, pass.time, width_}, [&](Operands& o) {
      take_row(o, x, o.row());
      o.take("dy", dy + o.row() * width_, width_);
      o.take("weight", weight_->value, width_);
      if (dskip) o.take("dskip", skipped.data() + o.row() * width_ + o.column(), 1);
    });
    if (!pass.probe) return;
    seen_x_ = x;
    seen_dy_ = dy;
  }

  void parameter_gradients(const Pass& pass, const T* slots) {
    const Index rows = slot_rows(pass.rows(), pass.time);
    add_column_sums(slots, rows, width_, 2 * width_, weight_->sum());
    site_.see(pass, "backward", op(), "weight", weight_->grad, weight_->shape, [&](Operands& o) {
      o.take("dy", seen_dy_ + o.column(), pass.rows(), width_);
      o.take("x", seen_x_ + o.column(), pass.rows(), width_);
      o.take("mean", mean_, mean_ ? pass.rows() : 0);
      o.take("rstd", rstd_, pass.rows());
    });
    if (!bias_) return;
    add_column_sums(slots + width_, rows, width_, 2 * width_, bias_->sum());
    site_.see(pass, "backward", op(), "bias", bias_->grad, bias_->shape,
              [&](Operands& o) { o.take("dy", seen_dy_ + o.column(), pass.rows(), width_); });
  }

 private:
  const char* op() const { return rms_ ? "rms_norm" : "layer_norm"; }
  NormKind kind() const { return rms_ ? NormKind::rms : NormKind::layer; }
  Index slot_rows(Index rows, Index time) const { return norm_slots(rows, time, width_); }

  void take_row(Operands& o, const T* x, Index row) const {
    o.set("eps", eps_);
    o.take("x", x + row * width_, width_);
    o.take("mean", mean_ ? mean_ + row : nullptr, 1);
    o.take("rstd", rstd_ + row, 1);
  }

  Site site_;
  Index width_ = 0;
  bool rms_ = false;
  double eps_ = 0;
  Parameter<T>*weight_ = nullptr, *bias_ = nullptr;
  T *mean_ = nullptr, *rstd_ = nullptr;
  const T *seen_x_ = nullptr, *seen_dy_ = nullptr;  // what backward was given: a pass that is traced is one part
};

}  // namespace loopos
