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
  Projection(Site site, Index in, Index out) : site_(std::move(site)), in_(in), out_(out) {}
  virtual ~Projection() = default;

  const Site& site() const { return site_; }
  Index in() const { return in_; }
  Index out() const { return out_; }

  /// Takes what forward keeps for backward and for the parameters' gradients.
  virtual void plan(Arena<T>&, const Pass&, Keep) {}
  /// Numbers a row that backward and parameter_gradients share, and where they lie. gradients_first: those of the
  /// parameters are taken before backward.
  virtual Index gradient_width() const { return 0; }
  virtual void plan_gradients(const Pass&, Rows<T>, bool /* gradients_first */) {}

  /// Before the batch, or a group of it, goes through in parts or whole: what parameters decide for all of its rows.
  virtual void begin(const Pass&) {}
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
  /// W and b of y = x Wᵀ + b, for a kind around it; b null: none.
  virtual const Weight<T>& weight() const = 0;
  virtual const Parameter<T>* bias() const = 0;
  virtual void visit_weights(const WeightVisitor<T>& visitor) = 0;

 private:
  Site site_;
  Index in_, out_;
};

/// Called with every place of a model that holds a projection: another kind may be put there, around what it holds.
template <class T>
using SlotVisitor = std::function<void(std::unique_ptr<Projection<T>>& slot)>;

struct ProjectionConfig {
  Index in, out;
  bool bias;
  double std;  // of the initial weight
};

template <class T>
std::unique_ptr<Projection<T>> make_projection(ParameterSet<T>& set, Site site, const ProjectionConfig& config);

}  // namespace loopos
