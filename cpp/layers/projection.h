// A projection y = x Wᵀ + b of rows, as the blocks see it. What stands behind it (a plain weight, one with an adapter,
// a frozen one in a small storage type) is its own affair: blocks, optimizer, checkpoint and trace never learn which
// kind they hold.
#pragma once

#include <memory>

#include "layers/plan.h"
#include "layers/weight.h"

namespace loopos {

template <class T>
class Projection {
 public:
  virtual ~Projection() = default;

  /// x (rows, in); y (rows, out) = the projection + residual (rows, out), which may be null.
  virtual void forward(const Pass& pass, const T* x, const T* residual, T* y) = 0;
  /// dx (rows, in) is overwritten; it must not be dy.
  virtual void backward(const Pass& pass, const T* dy, T* dx) = 0;
  /// Of what is trainable; of the whole batch. x as it was given to forward.
  virtual void parameter_gradients(const Pass& pass, const T* dy, const T* x) = 0;

  /// Whether parameter_gradients has anything to do.
  virtual bool trains() const = 0;
  /// Numbers in all of its weights.
  virtual Index size() const = 0;
  virtual void visit_weights(const WeightVisitor<T>& visitor) = 0;
};

struct ProjectionConfig {
  Index in, out;
  bool bias;
  double std;  // of the initial weight
};

template <class T>
std::unique_ptr<Projection<T>> make_projection(ParameterSet<T>& set, Site site, const ProjectionConfig& config);

}  // namespace loopos
