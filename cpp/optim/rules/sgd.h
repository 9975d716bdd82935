// Stochastic gradient descent with momentum, as torch.optim.SGD. Sutskever et al. 2013.
//   g = scale grad + decay p
//   b = momentum b + (1 - dampening) g      (b = g at the first step)
//   d = g + momentum b (Nesterov) or b      (d = g without momentum)
//   p -= lr d
#pragma once

#include "optim/options.h"
#include "optim/rule.h"

namespace loopos {

template <class T>
class Sgd : public Rule<T> {
 public:
  explicit Sgd(RuleOptions& options)
      : momentum_(options.number("momentum", 0)),
        dampening_(options.real("dampening", 0)),
        nesterov_(options.flag("nesterov", false)) {
    require(!nesterov_ || (momentum_ > 0 && dampening_ == 0),
            "Optimizer: nesterov needs momentum above 0 and dampening 0, got momentum ", momentum_, " and dampening ",
            dampening_);
  }

  std::vector<Moment> moments() const override {
    if (momentum_ == 0) return {};
    return {{"momentum", true}};
  }

  double update(const UpdateStep& step, const Piece<T>& piece) const override {
    const kernels::SgdUpdate<T> u{this->split(step.scale),
                                  static_cast<T>(step.lr),
                                  static_cast<T>(step.weight_decay),
                                  static_cast<T>(momentum_),
                                  static_cast<T>(1 - dampening_),
                                  nesterov_,
                                  step.count == 0,
                                  step.lr != 0};
    kernels::table<T>().sgd_update(u, piece.grad, piece.size, piece.weight, piece.moments[0]);
    return static_cast<double>(kernels::table<T>().max_abs(piece.weight, piece.size));  // it is still in the cache
  }

  bool bound(const UpdateStep& step, Magnitudes& m) const override {
    const double decay = step.weight_decay, lr = step.lr, before = m.moments[0];
    const double g = (m.grad * std::fabs(step.scale) + decay * m.weight) * this->kSlack;
    const double b = (step.count == 0 ? g : momentum_ * before + std::fabs(1 - dampening_) * g) * this->kSlack;
    const double d = momentum_ == 0 ? g : nesterov_ ? g + momentum_ * b : b;
    const double kept = std::max(1.0, std::fabs(1 - lr * decay)) * m.weight;
    m.moments[0] = b;
    return this->below_limit({g, before, b, d, lr, lr * d + kept});
  }

 private:
  double momentum_, dampening_;
  bool nesterov_;
};

}  // namespace loopos
