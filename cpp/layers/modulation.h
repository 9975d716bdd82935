// What a block's attention branch does to the input of its feed-forward: an adapter, beside projections that are frozen.
//   u = a A^T,  y = gate(u B_mult^T) x + scale u B_add^T
// a (rows, C) is what the attention branch adds to the stream, x (rows, C) the input of the feed-forward behind its norm;
// A (rank, C), B_add and B_mult (C, rank). In safe mode there is no gate: y = x + scale u B_add^T. With B_mult = 0 the
// gate is what ops/modulate.h says of z = 0: 1, or 3/4 with the published one.
// Kept for backward: a, which is summed into the stream and not found there again, and u. The rest is a few products of
// `rank` columns, and is recomputed where memory counts.
#pragma once

#include "layers/plan.h"
#include "ops/add.h"
#include "ops/linear.h"
#include "ops/modulate.h"

namespace loopos {

struct ModulationConfig {
  Index rank;
  GateKind gate;
  double additive_scale;
  bool safe_mode;
};

template <class T>
class Modulation {
 public:
  /// Every matrix is 0 until it is written.
  Modulation(ParameterSet<T>& set, Site site, Index width, const ModulationConfig& config)
      : site_(std::move(site)), width_(width), config_(config) {
    a_proj_ = site_.add(set, "A_proj", {config.rank, width}, 0, 0);
    b_add_ = site_.add(set, "B_add", {width, config.rank}, 0, 0);
    if (!config.safe_mode) b_mult_ = site_.add(set, "B_mult", {width, config.rank}, 0, 0);
  }

  bool gated() const { return b_mult_ != nullptr; }
  bool trains() const { return a_proj_->trainable || b_add_->trainable || (gated() && b_mult_->trainable); }
  /// off: the block computes as without it; its parameters, and what is planned for them, stay.
  void enable(bool on) { on_ = on; }
  bool on() const { return on_; }
  /// Where the attention branch leaves a, and where the gradient that comes to a from here stands.
  T* branch(const Pass& pass) const { return branch_.at(pass); }
  const T* dbranch(const Pass& pass) const { return dbranch_.at(pass); }

  /// Numbers a row of the workspace's `mapping`.
  Index workspace_width() const { return 3 * width_ + 2 * config_.rank; }
  /// Keep::costly: all but a and u go to the workspace, which blocks share.
  void plan(Arena<T>& arena, const Pass& pass, Keep keep, const Workspace<T>& work) {
    const Slots slots{arena, pass, keep, work};
    recompute_ = keep == Keep::costly;
    branch_ = take_rows(arena, pass, width_);
    u_ = take_rows(arena, pass, config_.rank);
    z_ = gated() ? slots.take(0, width_) : Rows<T>{};
    d_ = slots.take(width_, width_);
    y_ = slots.take(2 * width_, width_);
  }
  /// In the workspace gradients take the place of what is no more needed: dd of d, dz of y, and that of a comes last, in
  /// the place of z.
  void plan_gradients(Arena<T>& arena, const Pass& pass, Keep keep, const Workspace<T>& work) {
    const Slots slots{arena, pass, keep, work};
    dbranch_ = slots.take(0, width_);
    dd_ = slots.take(width_, width_);
    dz_ = gated() ? slots.take(2 * width_, width_) : Rows<T>{};
    du_ = slots.take(3 * width_, config_.rank);
    du_mult_ = gated() ? slots.take(3 * width_ + config_.rank, config_.rank) : Rows<T>{};
  }

  /// x (rows, C). Returns y.
  const T* forward(const Pass& pass, const T* x) {
    const T *a = branch_.at(pass), *z = z_.at(pass), *d = d_.at(pass);
    T* y = y_.at(pass);
    map(pass, *a_proj_, a, "u", u_.at(pass));
    if (gated()) map(pass, *b_mult_, u_.at(pass), "z", z_.at(pass));
    map(pass, *b_add_, u_.at(pass), "d", d_.at(pass));
    modulate_forward(config_.gate, x, z, d, pass.rows() * width_, config_.additive_scale, y);
    site_.see(pass, "forward", "modulate", "y", y, width_, [&](Operands& o) { operands(o, x, z, d); });
    return y;
  }

  /// dy (rows, C) becomes dx. due: as in Branch::backward.
  template <class Due>
  void backward(const Pass& pass, const T* x, T* dy, const Due& due) {
    const T *z = z_.at(pass), *u = u_.at(pass);
    T *dz = dz_.at(pass), *dd = dd_.at(pass), *du = du_.at(pass), *du_mult = du_mult_.at(pass);
    const Index n = pass.rows() * width_;
    if (recompute_ && gated()) {
      linear_forward<T>(u, b_mult_->value, nullptr, pass.rows(), config_.rank, width_, z_.at(pass));
      site_.recomputed(pass, "linear", "z", z, width_);
    }
    const std::vector<T> before = pass.overwritten(dy, width_);
    modulate_backward(config_.gate, dy, x, z, n, config_.additive_scale, dy, dz, dd);
    const auto see = [&](const char* tensor, T* gradient) {
      site_.see(pass, "backward", "modulate", tensor, gradient, width_,
                [&](Operands& o) { operands(o, x, z, nullptr, before.data()); });
    };
    see("dx", dy);
    if (gated()) see("dz", dz);
    see("dd", dd);
    map_back(pass, *b_add_, dd, "du_add", du);
    if (gated()) {
      map_back(pass, *b_mult_, dz, "du_mult", du_mult);
      const std::vector<T> added = pass.overwritten(du, config_.rank);
      add_forward(du, du_mult, pass.rows() * config_.rank, du);
      site_.see(pass, "backward", "add", "du", du, config_.rank,
                [&](Operands& o) { add_operands(o, "x", added.data(), "branch", du_mult, config_.rank); });
    }
    due([&] { parameter_gradients(pass); });
    map_back(pass, *a_proj_, du, "da", dbranch_.at(pass));
  }

  void gradient_tasks(GradientTasks& tasks) {
    tasks.push_back({3 * width_ * config_.rank, [this](const Pass& pass) {
                       if (on_) parameter_gradients(pass);
                     }});
  }

 private:
  /// Rows of the workspace that begin at this number of a row, or of their own.
  struct Slots {
    Arena<T>& arena;
    const Pass& pass;
    Keep keep;
    const Workspace<T>& work;

    Rows<T> take(Index at, Index width) const {
      return keep == Keep::costly ? work.mapping.behind(pass, at, width) : take_rows(arena, pass, width);
    }
  };

  /// Of the whole batch.
  void parameter_gradients(const Pass& pass) {
    gradient(pass, *a_proj_, du_.at(pass), branch_.at(pass));
    gradient(pass, *b_add_, dd_.at(pass), u_.at(pass));
    if (gated()) gradient(pass, *b_mult_, dz_.at(pass), u_.at(pass));
  }

  // y = x W^T, its mirror and the gradient of W (out, in).
  void map(const Pass& pass, const Parameter<T>& w, const T* x, const char* tensor, T* y) const {
    const Index out = w.shape[0], in = w.shape[1];
    linear_forward<T>(x, w.value, nullptr, pass.rows(), in, out, y);
    site_.see(pass, "forward", "linear", tensor, y, out,
              [&](Operands& o) { linear_operands<T>(o, x, w.value, nullptr, in); });
  }
  void map_back(const Pass& pass, const Parameter<T>& w, const T* dy, const char* tensor, T* dx) const {
    const Index out = w.shape[0], in = w.shape[1];
    linear_backward<T>(dy, w.value, pass.rows(), in, out, dx);
    site_.see(pass, "backward", "linear", tensor, dx, in,
              [&](Operands& o) { linear_backward_operands<T>(o, dy, w.value, in, out); });
  }
  void gradient(const Pass& pass, Parameter<T>& w, const T* dy, const T* x) const {
    if (!w.trainable) return;
    const Index out = w.shape[0], in = w.shape[1];
    linear_weight_gradient(dy, x, pass.rows(), in, out, !w.take_stale(), w.grad);
    pass.see_gradient("linear", w,
                      [&](Operands& o) { linear_weight_gradient_operands(o, dy, x, pass.rows(), in, out); });
  }
  void operands(Operands& o, const T* x, const T* z, const T* d, const T* dy = nullptr) const {
    modulate_operands(o, config_.gate, x, z, d, width_, config_.additive_scale, dy);
  }

  Site site_;
  Index width_;
  ModulationConfig config_;
  Parameter<T>*a_proj_, *b_add_, *b_mult_ = nullptr;
  bool on_ = true, recompute_ = false;
  Rows<T> branch_, u_, z_, d_, y_, dbranch_, dd_, dz_, du_, du_mult_;
};

}  // namespace loopos
