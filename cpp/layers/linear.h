// The plain projection: weight (out, in), a parameter or frozen and stored small; bias (out) or none.
#pragma once

#include "layers/projection.h"
#include "ops/column_sums.h"

namespace loopos {

template <class T>
class Linear : public Projection<T> {
 public:
  Linear(ParameterSet<T>& set, Site site, const ProjectionConfig& config)
      : site_(std::move(site)), in_(config.in), out_(config.out) {
    weight_ = Weight<T>(set, site_.name + ".weight", out_, in_, config.std, site_.layer);
    if (config.bias) bias_ = site_.add(set, "bias", {out_}, 0, 0);
  }

  void forward(const Pass& pass, const T* x, const T* residual, T* y) override {
    const T* bias = bias_ ? bias_->value : nullptr;
    weight_.forward(pass, x, bias, pass.rows(), y, residual);
    site_.see(pass, "forward", "linear", "y", y, out_, [&](Operands& o) { weight_.operands(o, x, bias); });
  }

  void backward(const Pass& pass, const T* dy, T* dx) override {
    weight_.backward(pass, dy, pass.rows(), dx);
    site_.see(pass, "backward", "linear", "dx", dx, in_, [&](Operands& o) { weight_.backward_operands(o, dy); });
  }

  void parameter_gradients(const Pass& pass, const T* dy, const T* x) override {
    const Index rows = pass.rows();
    if (weight_.trains()) weight_.gradient(dy, x, rows);
    if (bias_ && bias_->trainable) add_column_sums(dy, rows, out_, out_, bias_->sum());
    if (weight_.trains())
      pass.see_gradient("linear", weight_.parameter(),
                        [&](Operands& o) { linear_weight_gradient_operands(o, dy, x, rows, in_, out_); });
    if (bias_ && bias_->trainable)
      pass.see_gradient("linear", *bias_, [&](Operands& o) { column_sums_operands(o, dy, rows, out_); });
  }

  bool trains() const override { return weight_.trains() || (bias_ && bias_->trainable); }
  Index size() const override { return weight_.size(); }
  void visit_weights(const WeightVisitor<T>& visitor) override { weight_.visit(visitor); }

 private:
  Site site_;
  Index in_, out_;
  Weight<T> weight_;
  Parameter<T>* bias_ = nullptr;
};

}  // namespace loopos
