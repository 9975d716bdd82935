// The plain projection: weight (out, in), a parameter or frozen and stored small; bias (out) or none.
#pragma once

#include "layers/projection.h"
#include "ops/column_sums.h"

namespace loopos {

template <class T>
class Linear : public Projection<T> {
 public:
  Linear(ParameterSet<T>& set, Site site, const ProjectionConfig& config)
      : Projection<T>(std::move(site), config.in, config.out) {
    weight_ = Weight<T>(set, this->site().name + ".weight", config.out, config.in, config.std, this->site().layer,
                        WeightUse::projection);
    if (config.bias) bias_ = this->site().add(set, "bias", {config.out}, 0, 0);
  }

  void forward(const Pass& pass, const T* x, const T* residual, T* y) override {
    const T* bias = bias_ ? bias_->value : nullptr;
    weight_.forward(pass, x, bias, pass.rows(), y, residual);
    this->site().see(pass, "forward", "linear", "y", y, this->out(),
                     [&](Operands& o) { weight_.operands(o, x, bias); });
  }

  void backward(const Pass& pass, const T* dy, T* dx) override {
    weight_.backward(pass, dy, pass.rows(), dx);
    this->site().see(pass, "backward", "linear", "dx", dx, this->in(),
                     [&](Operands& o) { weight_.backward_operands(o, dy); });
  }

  void parameter_gradients(const Pass& pass, const T* dy, const T* x) override {
    const Index rows = pass.rows(), in = this->in(), out = this->out();
    if (weight_.trains()) weight_.gradient(dy, x, rows);
    if (bias_ && bias_->trainable) add_column_sums(dy, rows, out, out, bias_->sum());
    if (weight_.trains())
      pass.see_gradient("linear", weight_.parameter(),
                        [&](Operands& o) { linear_weight_gradient_operands(o, dy, x, rows, in, out); });
    if (bias_ && bias_->trainable)
      pass.see_gradient("linear", *bias_, [&](Operands& o) { column_sums_operands(o, dy, rows, out); });
  }

  bool trains() const override { return weight_.trains() || (bias_ && bias_->trainable); }
  Index size() const override { return weight_.size(); }
  const Weight<T>& weight() const override { return weight_; }
  const Parameter<T>* bias() const override { return bias_; }
  void visit_weights(const WeightVisitor<T>& visitor) override { weight_.visit(visitor); }

 private:
  Weight<T> weight_;
  Parameter<T>* bias_ = nullptr;
};

}  // namespace loopos
