// The plain projection: weight (out, in), bias (out) or none.
#pragma once

#include "layers/projection.h"
#include "ops/column_sums.h"

namespace loopos {

template <class T>
class Linear : public Projection<T> {
 public:
  Linear(ParameterSet<T>& set, Site site, const ProjectionConfig& config)
      : site_(std::move(site)), in_(config.in), out_(config.out) {
    weight_ = site_.add(set, "weight", {out_, in_}, 0, config.std);
    if (config.bias) bias_ = site_.add(set, "bias", {out_}, 0, 0);
  }

  void forward(const Pass& pass, const T* x, const T* residual, T* y) override {
    const T *weight = weight_->value, *bias = bias_ ? bias_->value : nullptr;
    linear_forward(x, weight, bias, pass.rows(), in_, out_, y, residual, pass.packed ? &packed_ : nullptr);
    site_.see(pass, "forward", "linear", "y", y, out_, [&](Operands& o) { linear_operands(o, x, weight, bias, in_); });
  }

  void backward(const Pass& pass, const T* dy, T* dx) override {
    linear_backward(dy, weight_->value, pass.rows(), in_, out_, dx, pass.packed ? &packed_ : nullptr);
    site_.see(pass, "backward", "linear", "dx", dx, in_,
              [&](Operands& o) { linear_backward_operands(o, dy, weight_->value, in_, out_); });
  }

  void parameter_gradients(const Pass& pass, const T* dy, const T* x) override {
    const Index rows = pass.rows();
    if (weight_->trainable) linear_weight_gradient(dy, x, rows, in_, out_, !weight_->take_stale(), weight_->grad);
    if (bias_ && bias_->trainable) add_column_sums(dy, rows, out_, out_, bias_->sum());
    if (weight_->trainable)
      pass.see_gradient("linear", *weight_,
                        [&](Operands& o) { linear_weight_gradient_operands(o, dy, x, rows, in_, out_); });
    if (bias_ && bias_->trainable)
      pass.see_gradient("linear", *bias_, [&](Operands& o) { column_sums_operands(o, dy, rows, out_); });
  }

  bool trains() const override { return weight_->trainable || (bias_ && bias_->trainable); }
  Index size() const override { return in_ * out_; }
  void visit_weights(const WeightVisitor<T>& visitor) override { visitor(weight_->value, in_, out_, packed_); }

 private:
  Site site_;
  Index in_, out_;
  Parameter<T>*weight_ = nullptr, *bias_ = nullptr;
  PackedWeight<T> packed_;
};

}  // namespace loopos
