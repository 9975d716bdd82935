#include "optim/optimizer.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/thread_pool.h"
#include "kernels/table.h"

namespace loopos {
namespace {

constexpr Index kChunk = 8192;  // four arrays of it fit the second-level cache

/// max that keeps a NaN.
double larger(double a, double b) {
  return std::isnan(a) || a > b ? a : b;
}

}  // namespace

/// What the kernels need for one tensor.
template <class T>
struct Optimizer<T>::Prepared {
  kernels::SgdUpdate<T> sgd;
  kernels::AdamUpdate<T> adam;
};

template <class T>
Optimizer<T>::Optimizer(OptimizerKind kind, std::vector<ParameterSlot<T>> parameters, const OptimizerOptions& options)
    : kind_(kind), options_(options), parameters_(std::move(parameters)) {
  Index total = 0;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    offsets_.push_back(total);
    total += parameters_[i].size;
    for (Index begin = 0; begin < parameters_[i].size; begin += kChunk)
      chunks_.push_back({static_cast<Index>(i), begin, std::min(kChunk, parameters_[i].size - begin)});
  }
  tops_.resize(2 * chunks_.size());
  for (std::size_t which = 0; which < moment_names().size(); ++which) {
    moments_[which] = Buffer<T>(total);
    std::fill(moments_[which].data(), moments_[which].data() + total, T(0));
  }
}

template <class T>
std::vector<std::string> Optimizer<T>::moment_names() const {
  if (kind_ != OptimizerKind::sgd) return {"exp_avg", "exp_avg_sq"};
  if (options_.momentum != 0) return {"momentum"};
  return {};
}

template <class T>
T* Optimizer<T>::moment(std::size_t which, std::size_t tensor) {
  bounds_known_ = false;
  return moments_[which].data() + offsets_[tensor];
}

template <class T>
typename Optimizer<T>::Prepared Optimizer<T>::prepare(std::size_t tensor, double lr, double scale) const {
  const double decay = parameters_[tensor].weight_decay, l2 = kind_ == OptimizerKind::adamw ? 0 : decay;
  const auto& o = options_;
  // A tiny clip factor (gradients near 3e38) goes in as 2^-k and the rest, both of them normal numbers in T.
  const double power = scale != 0 && std::fabs(scale) < 0x1p-64 ? 0x1p-64 : 1.0;
  const kernels::UpdateScale<T> factor{static_cast<T>(power), static_cast<T>(scale / power)};
  Prepared u{};
  u.sgd = {factor,
           static_cast<T>(lr),
           static_cast<T>(l2),
           static_cast<T>(o.momentum),
           static_cast<T>(1 - o.dampening),
           o.nesterov,
           count_ == 0,
           lr != 0};
  const double t = static_cast<double>(count_ + 1);
  const double correction1 = 1 - std::pow(o.beta1, t), correction2 = 1 - std::pow(o.beta2, t);
  u.adam.scale = factor;
  u.adam.l2 = static_cast<T>(l2);
  u.adam.decay = static_cast<T>(kind_ == OptimizerKind::adamw ? 1 - lr * decay : 1.0);
  u.adam.one_minus_beta1 = static_cast<T>(1 - o.beta1);
  u.adam.beta2 = static_cast<T>(o.beta2);
  u.adam.one_minus_beta2 = static_cast<T>(1 - o.beta2);
  u.adam.inverse_root = static_cast<T>(1 / std::sqrt(correction2));
  u.adam.eps = static_cast<T>(o.eps);
  u.adam.step_size = static_cast<T>(lr / correction1);
  u.adam.move = lr != 0;
  return u;
}

template <class T>
void Optimizer<T>::update(const Prepared& u, const T* grad, Index n, T* p, T* first, T* second) const {
  const auto& k = kernels::table<T>();
  if (kind_ == OptimizerKind::sgd)
    k.sgd_update(u.sgd, grad, n, p, first);
  else
    k.adam_update(u.adam, grad, n, p, first, second);
}

template <class T>
std::optional<Refusal> Optimizer<T>::find_bad_gradient(const std::vector<const T*>& grads) const {
  for (std::size_t i = 0; i < grads.size(); ++i) {
    const Index at = kernels::table<T>().first_nonfinite(grads[i], parameters_[i].size);
    if (at < parameters_[i].size)
      return Refusal{"backward", static_cast<Index>(i), at, static_cast<double>(grads[i][at]), "gradient", {}};
  }
  return std::nullopt;
}

/// The bounds, read from the moments themselves. A second moment below zero (it can only have been written by hand) has
/// no bound.
template <class T>
void Optimizer<T>::measure_moments() {
  const auto& k = kernels::table<T>();
  for (std::size_t w = 0; w < moment_names().size(); ++w) {
    const T* x = moments_[w].data();
    bounds_[w] = static_cast<double>(k.max_abs(x, moments_[w].size()));
    if (w == 1 && std::any_of(x, x + moments_[w].size(), [](T v) { return v < T(0); }))
      bounds_[w] = std::numeric_limits<double>::quiet_NaN();
  }
}

/// Bounds of every intermediate and result, with a little more than rounding can add. True: no result can leave the
/// range of T. Moves the bounds of the moments on by one step.
template <class T>
bool Optimizer<T>::proven_safe(double top_grad, double top_weight, double lr, double scale) {
  constexpr double kSlack = 1 + 1e-5, kLimit = static_cast<double>(std::numeric_limits<T>::max()) / 16;
  double decay = 0;
  for (const auto& p : parameters_) decay = std::max(decay, p.weight_decay);
  const auto& o = options_;
  const double l2 = kind_ == OptimizerKind::adamw ? 0 : decay;
  const double g = (top_grad * std::fabs(scale) + l2 * top_weight) * kSlack;
  const double t = static_cast<double>(count_ + 1);
  const double top_move = std::max(1.0, std::fabs(1 - lr * decay)) * top_weight;
  double next[2] = {0, 0};
  bool safe = true;
  const auto check = [&](std::initializer_list<double> magnitudes) {
    for (double m : magnitudes) safe = safe && m < kLimit;  // false for a NaN
  };
  if (kind_ == OptimizerKind::sgd) {
    next[0] = (count_ == 0 ? g : o.momentum * bounds_[0] + std::fabs(1 - o.dampening) * g) * kSlack;
    const double d = o.momentum == 0 ? g : o.nesterov ? g + o.momentum * next[0] : next[0];
    check({g, bounds_[0], next[0], d, lr, lr * d + top_move});
  } else {
    next[0] = (o.beta1 * bounds_[0] + (1 - o.beta1) * g) * kSlack;
    next[1] = (o.beta2 * bounds_[1] + (1 - o.beta2) * g * g) * kSlack;
    const double size = lr / (1 - std::pow(o.beta1, t)), root = 1 / std::sqrt(1 - std::pow(o.beta2, t));
    const double ratio = next[0] / static_cast<double>(static_cast<T>(o.eps));  // eps 0 proves nothing: infinite or NaN
    check({g + bounds_[0], bounds_[1], next[0], next[1], g * g, root, size, ratio, size * ratio + top_move});
  }
  bounds_[0] = next[0];
  bounds_[1] = next[1];
  return safe;
}

/// The exact update on scratch copies; the first result that is not finite, in the order of tensors and elements.
template <class T>
std::optional<Refusal> Optimizer<T>::rehearse(const std::vector<const T*>& grads, double lr, double scale) const {
  const auto& k = kernels::table<T>();
  const auto names = moment_names();
  struct Copies;
  for (const Chunk& c : chunks_) {
    T* copy = scratch<T, Copies>(3 * kChunk);
    T* parts[3] = {copy, copy + kChunk, copy + 2 * kChunk};
    const auto i = static_cast<std::size_t>(c.tensor);
    const T* weights = parameters_[i].data + c.begin;
    std::copy(weights, weights + c.size, parts[0]);
    for (std::size_t w = 0; w < names.size(); ++w) std::copy(place(w, c), place(w, c) + c.size, parts[w + 1]);
    update(prepare(i, lr, scale), grads[i] + c.begin, c.size, parts[0], names.empty() ? nullptr : parts[1], parts[2]);
    for (std::size_t w = 0; w <= names.size(); ++w) {
      const Index at = k.first_nonfinite(parts[w], c.size);
      if (at == c.size) continue;
      const auto number = [&](const T* x) { return static_cast<double>(x[at]); };
      Refusal refusal{"update", c.tensor, c.begin + at, number(parts[w]), w > 0 ? names[w - 1] : "weight", {}};
      refusal.operands = {{"weight", number(weights)},
                          {"gradient", number(grads[i] + c.begin)},
                          {"clip_factor", scale},
                          {"learning_rate", lr},
                          {"weight_decay", parameters_[i].weight_decay}};
      for (std::size_t m = 0; m < names.size(); ++m) {
        refusal.operands.emplace_back(names[m], number(place(m, c)));
        refusal.operands.emplace_back("new " + names[m], number(parts[m + 1]));
      }
      if (kind_ != OptimizerKind::sgd) {
        const double t = static_cast<double>(count_ + 1);
        refusal.operands.emplace_back("eps", options_.eps);
        refusal.operands.emplace_back("1 - beta1^t", 1 - std::pow(options_.beta1, t));
        refusal.operands.emplace_back("1 - beta2^t", 1 - std::pow(options_.beta2, t));
      }
      return refusal;
    }
  }
  return std::nullopt;
}

template <class T>
std::optional<Refusal> Optimizer<T>::step(const std::vector<const T*>& grads, double lr, double scale, double norm) {
  const auto& k = kernels::table<T>();
  const Index chunks = static_cast<Index>(chunks_.size());
  const std::size_t moments = moment_names().size();
  const bool known = std::isfinite(norm);
  parallel_blocks(chunks, 2, [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      const Chunk& c = chunks_[static_cast<std::size_t>(i)];
      const auto tensor = static_cast<std::size_t>(c.tensor);
      tops_[static_cast<std::size_t>(2 * i)] =
          known ? norm : static_cast<double>(k.max_abs(grads[tensor] + c.begin, c.size));
      tops_[static_cast<std::size_t>(2 * i + 1)] =
          static_cast<double>(k.max_abs(parameters_[tensor].data + c.begin, c.size));
    }
  });
  double top_grad = 0, top_weight = 0;
  for (std::size_t i = 0; i < chunks_.size(); ++i) {
    top_grad = larger(tops_[2 * i], top_grad);
    top_weight = larger(tops_[2 * i + 1], top_weight);
    if (std::isnan(top_grad)) break;
  }
  if (!std::isfinite(top_grad)) return find_bad_gradient(grads);

  const double before[2] = {bounds_[0], bounds_[1]};
  if (!bounds_known_) measure_moments();
  if (!proven_safe(top_grad, top_weight, lr, scale)) {
    if (auto refusal = rehearse(grads, lr, scale)) {
      bounds_[0] = before[0];
      bounds_[1] = before[1];
      return refusal;
    }
    // All results are finite, but how large they are the bounds no longer say.
    bounds_known_ = false;
  } else {
    bounds_known_ = true;
  }
  parallel_blocks(chunks, 2, [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      const Chunk& c = chunks_[static_cast<std::size_t>(i)];
      const auto tensor = static_cast<std::size_t>(c.tensor);
      update(prepare(tensor, lr, scale), grads[tensor] + c.begin, c.size, parameters_[tensor].data + c.begin,
             moments > 0 ? place(0, c) : nullptr, moments > 1 ? place(1, c) : nullptr);
    }
  });
  ++count_;
  return std::nullopt;
}

template class Optimizer<float>;
template class Optimizer<double>;

}  // namespace loopos
