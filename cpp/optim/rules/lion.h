// Lion, the sign of a blend of momentum and gradient, with decoupled decay. Chen et al. 2023.
//   g = scale grad
//   p *= 1 - lr decay
//   p -= lr sign(beta1 m + (1 - beta1) g)      (sign 0 = 0)
//   m = beta2 m + (1 - beta2) g
// Hyper-parameters are computed in double, the element arithmetic in T.
#pragma once

#include <algorithm>

#include "optim/options.h"
#include "optim/rule.h"

namespace loopos {

template <class T>
class Lion : public Rule<T> {
 public:
  explicit Lion(RuleOptions& options)
      : beta1_(options.number("beta1", 0.9, 1)), beta2_(options.number("beta2", 0.99, 1)) {}

  std::vector<Moment> moments() const override { return {{"exp_avg", true}}; }

  double update(const UpdateStep& step, const Piece<T>& piece) const override {
    const auto& k = kernels::table<T>();
    const T keep = static_cast<T>(1 - step.lr * step.weight_decay), rate = static_cast<T>(-step.lr);
    T room[Rule<T>::kBlock], direction[Rule<T>::kBlock];
    for (Index begin = 0; begin < piece.size; begin += Rule<T>::kBlock) {
      const Index n = std::min(Rule<T>::kBlock, piece.size - begin);
      const T* grad = this->scaled(piece.grad + begin, n, step.scale, room);
      T *weight = piece.weight + begin, *m = piece.moments[0] + begin;
      if (step.lr != 0) {
        k.blend(grad, static_cast<T>(1 - beta1_), m, static_cast<T>(beta1_), n, direction);
        k.sign(direction, n, direction);
        k.blend(direction, rate, weight, keep, n, weight);
      }
      k.blend(grad, static_cast<T>(1 - beta2_), m, static_cast<T>(beta2_), n, m);
    }
    return static_cast<double>(k.max_abs(piece.weight, piece.size));  // a chunk is still in the cache
  }

  bool bound(const UpdateStep& step, Magnitudes& m) const override {
    const double g = m.grad * std::fabs(step.scale) * this->kSlack, before = m.moments[0];
    const double kept = std::max(1.0, std::fabs(1 - step.lr * step.weight_decay)) * m.weight;
    m.moments[0] = (beta2_ * before + (1 - beta2_) * g) * this->kSlack;
    return this->below_limit({g, before, m.moments[0], step.lr, step.lr + kept});
  }

  /// "direction": the step before the rate.
  void operands(const UpdateStep& step, const Piece<T>&, Index, Operands& list) const override {
    double gradient = 0, before = 0;
    for (const auto& [name, value] : list) {
      if (name == "gradient") gradient = value;
      if (name == "exp_avg") before = value;
    }
    const double c = beta1_ * before + (1 - beta1_) * step.scale * gradient;
    list.emplace_back("direction", c > 0 ? 1 : c < 0 ? -1 : c);
  }

 private:
  double beta1_, beta2_;
};

}  // namespace loopos
