// y = x Wᵀ + b: the plain projection. weight (out, in), bias (out) or none.
#pragma once

#include "core/parameter.h"
#include "layers/pass.h"
#include "ops/linear.h"

namespace loopos {

template <class T>
class Linear {
 public:
  Linear() = default;
  Linear(ParameterSet<T>& set, Site site, Index in, Index out, bool bias, double std)
      : site_(std::move(site)), in_(in), out_(out) {
    weight_ = set.add(site_.name + ".weight", {out, in}, 0, std);
    if (bias) bias_ = set.add(site_.name + ".bias", {out}, 0, 0);
  }

  Index out() const { return out_; }
  Parameter<T>* weight() const { return weight_; }

  /// x (rows, in) must stay as it is until backward; y (rows, out).
  void forward(const Pass& pass, const T* x, T* y) {
    x_ = x;
    linear_forward(x, weight_->value, bias_ ? bias_->value : nullptr, pass.rows(), in_, out_, y);
    site_.see(pass, "forward", "linear", "y", y, {pass.batch, pass.time, out_});
  }

  /// dx (rows, in) is overwritten; it must not be dy.
  void backward(const Pass& pass, const T* dy, T* dx) {
    linear_backward(dy, x_, weight_->value, pass.rows(), in_, out_, dx, weight_->grad, bias_ ? bias_->grad : nullptr);
    site_.see(pass, "backward", "linear", "dx", dx, {pass.batch, pass.time, in_});
    site_.see(pass, "backward", "linear", "weight", weight_->grad, weight_->shape);
    if (bias_) site_.see(pass, "backward", "linear", "bias", bias_->grad, bias_->shape);
  }

 private:
  Site site_;
  Index in_ = 0, out_ = 0;
  Parameter<T>*weight_ = nullptr, *bias_ = nullptr;
  const T* x_ = nullptr;
};

}  // namespace loopos
