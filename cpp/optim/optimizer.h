// SGD, Adam (L2) and AdamW (decoupled decay): the rules of torch.optim, in one pass over gradient, weight and moments,
// all or nothing.
//   g = scale grad (+ decay p for SGD and Adam)
//   SGD    b = momentum b + (1 - dampening) g (b = g at the first step);  d = g + momentum b (Nesterov) or b;  p -= lr
//   d Adam   m += (1 - beta1)(g - m);  v = beta2 v + (1 - beta2) g^2;  p -= lr / (1 - beta1^t) m / (sqrt(v / (1 -
//   beta2^t)) + eps) AdamW  the same, after p *= 1 - lr decay
// Kingma, Ba 2015; Loshchilov, Hutter 2019; Sutskever et al. 2013. Hyper-parameters and bias corrections are computed
// in double, the element arithmetic in T. A step first reads gradients and weights: a number that is not finite is
// found before anything is written, and a bound on the largest possible result is compared with the range of T. Only
// when the bound cannot prove the update safe is it tried on scratch copies.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/buffer.h"
#include "core/check.h"

namespace loopos {

enum class OptimizerKind { sgd, adam, adamw };

struct OptimizerOptions {
  double momentum = 0, dampening = 0, beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
  bool nesterov = false;
};

template <class T>
struct ParameterSlot {
  T* data;
  Index size;
  double weight_decay;
};

/// Why a step was refused: phase "backward" (a gradient) or "update" (what would have been written), the element's flat
/// place and value; what would have held it (the weight or a moment); and what it was to be computed from, by name.
struct Refusal {
  const char* phase;
  Index tensor, flat;
  double value;
  std::string result;
  std::vector<std::pair<std::string, double>> operands;
};

template <class T>
class Optimizer {
 public:
  /// The weights stay the caller's. Moments begin at zero.
  Optimizer(OptimizerKind kind, std::vector<ParameterSlot<T>> parameters, const OptimizerOptions& options);

  /// grads[i] has the size of parameter i. norm: finite and not below any |gradient|, such as their norm; NaN: the
  /// gradients are read for it. Nothing is changed when a refusal comes back.
  std::optional<Refusal> step(const std::vector<const T*>& grads, double lr, double scale, double norm);

  Index count() const { return count_; }
  void set_count(Index count) { count_ = count; }
  /// "momentum", or "exp_avg" and "exp_avg_sq", or nothing (SGD without momentum).
  std::vector<std::string> moment_names() const;
  /// Moment `which` of a tensor, writable. Until the next step its numbers are taken to be unknown.
  T* moment(std::size_t which, std::size_t tensor);

 private:
  struct Chunk {
    Index tensor, begin, size;
  };
  struct Prepared;

  Prepared prepare(std::size_t tensor, double lr, double scale) const;
  void update(const Prepared& u, const T* grad, Index n, T* p, T* first, T* second) const;
  std::optional<Refusal> find_bad_gradient(const std::vector<const T*>& grads) const;
  void measure_moments();
  bool proven_safe(double top_grad, double top_weight, double lr, double scale);
  std::optional<Refusal> rehearse(const std::vector<const T*>& grads, double lr, double scale) const;
  T* place(std::size_t which, const Chunk& c) {
    return moments_[which].data() + offsets_[static_cast<std::size_t>(c.tensor)] + c.begin;
  }
  const T* place(std::size_t which, const Chunk& c) const {
    return moments_[which].data() + offsets_[static_cast<std::size_t>(c.tensor)] + c.begin;
  }

  OptimizerKind kind_;
  OptimizerOptions options_;
  std::vector<ParameterSlot<T>> parameters_;
  std::vector<Index> offsets_;
  std::vector<Chunk> chunks_;
  std::vector<double> tops_;  // per chunk: largest |gradient|, largest |weight|
  Buffer<T> moments_[2];
  double bounds_[2] = {0, 0};  // no moment is larger than this
  bool bounds_known_ = true;
  Index count_ = 0;
};

}  // namespace loopos
