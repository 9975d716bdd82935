// Layer norm or RMS norm over the channels, with weight and (layer norm) optional bias.
#pragma once

#include "core/parameter.h"
#include "layers/pass.h"
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

  /// x (rows, width) must stay as it is until backward.
  void forward(const Pass& pass, const T* x, T* y) {
    x_ = x;
    if (rms_)
      rms_norm_forward(x, weight_->value, pass.rows(), width_, eps_, y, rstd_);
    else
      layer_norm_forward(x, weight_->value, bias_ ? bias_->value : nullptr, pass.rows(), width_, eps_, y, mean_, rstd_);
    site_.see(pass, "forward", op(), "y", y, {pass.batch, pass.time, width_});
  }

  /// dx = the gradient through the norm + dskip, what comes around it (null: nothing; may be dx itself).
  void backward(const Pass& pass, const T* dy, const T* dskip, T* dx) {
    if (rms_)
      rms_norm_backward(dy, x_, weight_->value, rstd_, dskip, pass.rows(), width_, dx, weight_->grad);
    else
      layer_norm_backward(dy, x_, weight_->value, mean_, rstd_, dskip, pass.rows(), width_, dx, weight_->grad,
                          bias_ ? bias_->grad : nullptr);
    site_.see(pass, "backward", op(), "dx", dx, {pass.batch, pass.time, width_});
    site_.see(pass, "backward", op(), "weight", weight_->grad, weight_->shape);
    if (bias_) site_.see(pass, "backward", op(), "bias", bias_->grad, bias_->shape);
  }

 private:
  const char* op() const { return rms_ ? "rms_norm" : "layer_norm"; }

  Site site_;
  Index width_ = 0;
  bool rms_ = false;
  double eps_ = 0;
  Parameter<T>*weight_ = nullptr, *bias_ = nullptr;
  const T* x_ = nullptr;
  T *mean_ = nullptr, *rstd_ = nullptr;
};

}  // namespace loopos
