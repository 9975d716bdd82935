// y = x Wᵀ + b: the plain projection. weight (out, in), bias (out) or none.
#pragma once

#include "core/parameter.h"
#include "layers/pass.h"
#include "ops/column_sums.h"
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

  void visit_weights(WeightVisitor<T>& visitor) { visitor(weight_, in_, out_, &panels_); }

  /// x (rows, in); y (rows, out) = the projection + residual (rows, out), which may be null.
  void forward(const Pass& pass, const T* x, const T* residual, T* y) {
    linear_forward(x, weight_->value, bias_ ? bias_->value : nullptr, pass.rows(), in_, out_, y, residual,
                   pass.packed ? &panels_ : nullptr);
    site_.see(pass, "forward", "linear", "y", y, {pass.batch, pass.time, out_}, [&](Operands& o) {
      o.take("x", x + o.row() * in_, in_);
      o.take("weight", weight_->value + o.column() * in_, in_);
      if (bias_) o.take("bias", bias_->value + o.column(), 1);
    });
  }

  /// dx (rows, in) is overwritten; it must not be dy.
  void backward(const Pass& pass, const T* dy, T* dx) {
    linear_backward(dy, weight_->value, pass.rows(), in_, out_, dx, pass.packed ? &panels_ : nullptr);
    site_.see(pass, "backward", "linear", "dx", dx, {pass.batch, pass.time, in_}, [&](Operands& o) {
      o.take("dy", dy + o.row() * out_, out_);
      o.take("weight", weight_->value + o.column(), out_, in_);
    });
  }

  /// x as it was given to forward.
  void parameter_gradients(const Pass& pass, const T* dy, const T* x) {
    linear_weight_gradient(dy, x, pass.rows(), in_, out_, !weight_->take_stale(), weight_->grad);
    if (bias_) add_column_sums(dy, pass.rows(), out_, out_, bias_->sum());
    site_.see(pass, "backward", "linear", "weight", weight_->grad, weight_->shape, [&](Operands& o) {
      o.take("dy", dy + o.row(), pass.rows(), out_);
      o.take("x", x + o.column(), pass.rows(), in_);
    });
    if (bias_)
      site_.see(pass, "backward", "linear", "bias", bias_->grad, bias_->shape,
                [&](Operands& o) { o.take("dy", dy + o.column(), pass.rows(), out_); });
  }

 private:
  Site site_;
  Index in_ = 0, out_ = 0;
  Parameter<T>*weight_ = nullptr, *bias_ = nullptr;
  PackedWeight<T> panels_;
};

}  // namespace loopos
