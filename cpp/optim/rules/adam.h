// Adam with L2 decay (Kingma, Ba 2015) and AdamW with decoupled decay (Loshchilov, Hutter 2019), as torch.optim.
//   g = scale grad + decay p                (AdamW: g = scale grad, and first p *= 1 - lr decay)
//   m += (1 - beta1) (g - m)
//   v = beta2 v + (1 - beta2) g^2
//   p -= lr / (1 - beta1^t) m / (sqrt(v / (1 - beta2^t)) + eps)
// Hyper-parameters and bias corrections are computed in double, the element arithmetic in T.
#pragma once

#include "optim/options.h"
#include "optim/rule.h"

namespace loopos {

template <class T>
class Adam : public Rule<T> {
 public:
  explicit Adam(RuleOptions& options, bool decoupled = false)
      : decoupled_(decoupled),
        beta1_(options.number("beta1", 0.9, 1)),
        beta2_(options.number("beta2", 0.999, 1)),
        eps_(options.number("eps", 1e-8)) {}

  std::vector<Moment> moments() const override { return {{"exp_avg", true}, {"exp_avg_sq", false}}; }

  double update(const UpdateStep& step, const Piece<T>& piece) const override {
    kernels::AdamUpdate<T> u{};
    u.scale = this->split(step.scale);
    u.l2 = static_cast<T>(decoupled_ ? 0 : step.weight_decay);
    u.decay = static_cast<T>(decoupled_ ? 1 - step.lr * step.weight_decay : 1.0);
    u.one_minus_beta1 = static_cast<T>(1 - beta1_);
    u.beta2 = static_cast<T>(beta2_);
    u.one_minus_beta2 = static_cast<T>(1 - beta2_);
    u.inverse_root = static_cast<T>(1 / std::sqrt(correction(beta2_, step)));
    u.eps = static_cast<T>(eps_);
    u.step_size = static_cast<T>(step.lr / correction(beta1_, step));
    u.move = step.lr != 0;
    return static_cast<double>(
        kernels::table<T>().adam_update(u, piece.grad, piece.size, piece.weight, piece.moments[0], piece.moments[1]));
  }

  bool bound(const UpdateStep& step, Magnitudes& m) const override {
    const double decay = step.weight_decay, first = m.moments[0], second = m.moments[1];
    const double g = (m.grad * std::fabs(step.scale) + (decoupled_ ? 0 : decay) * m.weight) * this->kSlack;
    m.moments[0] = (beta1_ * first + (1 - beta1_) * g) * this->kSlack;
    m.moments[1] = (beta2_ * second + (1 - beta2_) * g * g) * this->kSlack;
    const double size = step.lr / correction(beta1_, step), root = 1 / std::sqrt(correction(beta2_, step));
    const double eps = static_cast<double>(static_cast<T>(eps_));
    const double ratio = m.moments[0] / eps;  // eps 0 proves nothing: infinite or NaN
    const double kept = std::max(1.0, std::fabs(1 - step.lr * decay)) * m.weight;
    return this->below_limit(
        {g + first, second, m.moments[0], m.moments[1], g * g, root, size, ratio, size * ratio + kept});
  }

  void operands(const UpdateStep& step, const Piece<T>&, Index, Operands& list) const override {
    list.emplace_back("eps", eps_);
    list.emplace_back("1 - beta1^t", correction(beta1_, step));
    list.emplace_back("1 - beta2^t", correction(beta2_, step));
  }

 private:
  static double correction(double beta, const UpdateStep& step) {
    return 1 - std::pow(beta, static_cast<double>(step.count + 1));
  }

  bool decoupled_;
  double beta1_, beta2_, eps_;
};

template <class T>
class AdamW : public Adam<T> {
 public:
  explicit AdamW(RuleOptions& options) : Adam<T>(options, true) {}
};

}  // namespace loopos
