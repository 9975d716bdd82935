// The feed-forward part of a block: up projection, activation, down projection; or the gated form f(gate) up with gate
// and up in one projection (gate rows first).
#pragma once

#include "layers/projection.h"
#include "ops/activation.h"
#include "ops/gated.h"

namespace loopos {

struct MlpConfig {
  Index width, hidden;
  FeedForwardActivation activation;
  bool bias;
  double std, out_std;
};

template <class T>
class Mlp {
 public:
  Mlp() = default;
  Mlp(ParameterSet<T>& set, Site site, const MlpConfig& config)
      : site_(std::move(site)),
        config_(config),
        up_(config.activation.gated ? 2 * config.hidden : config.hidden),
        up_proj_(make_projection(set, site_ / (config.activation.gated ? "gate_up_proj" : "up_proj"),
                                 {config.width, up_, config.bias, config.std})),
        down_proj_(
            make_projection(set, site_ / "down_proj", {config.hidden, config.width, config.bias, config.out_std})) {}

  std::unique_ptr<Projection<T>>& input_proj() { return up_proj_; }
  std::unique_ptr<Projection<T>>& output_proj() { return down_proj_; }
  bool trains() const { return up_proj_->trains() || down_proj_->trains(); }
  /// The activation's result, if it was not kept, stands where backward puts its gradient.
  static constexpr bool kOutputFirst = true;

  /// The activation's result, unless it is kept, goes to `hidden`, which is free when it is wanted, and is recomputed.
  /// Keep::least: so does what the up projection gives, behind it.
  void plan(Arena<T>& arena, const Pass& pass, Keep keep, Rows<T> hidden) {
    up_proj_->plan(arena, pass, keep);
    down_proj_->plan(arena, pass, keep);
    recompute_up_ = keep == Keep::least;
    before_ = recompute_up_ ? hidden.behind(pass, config_.hidden, up_) : take_rows(arena, pass, up_);
    after_ = shares(keep) ? hidden.behind(pass, 0, config_.hidden) : take_rows(arena, pass, config_.hidden);
    slope_ = keep != Keep::nothing && !gated() && !pass.probe;
    recompute_ = keep == Keep::costly && down_proj_->trains();
  }

  /// Numbers a row of `hidden` that backward needs: the gradient of the activation's result; behind it, for a trace, that
  /// of its arguments, which else takes their place, or those themselves; and, unless they are kept, the projections' own.
  Index hidden_width(const Pass& pass, Keep keep) const {
    if (keep == Keep::all) return config_.hidden;
    return config_.hidden + behind(pass, keep) + up_proj_->gradient_width() + down_proj_->gradient_width();
  }
  void plan_gradients(Arena<T>& arena, const Pass& pass, Keep keep, Rows<T> hidden) {
    dafter_ = hidden;
    GradientRows<T> rows(arena, pass, keep, hidden, config_.hidden + behind(pass, keep));
    dbefore_ = pass.probe ? hidden.behind(pass, config_.hidden, up_) : before_;
    up_proj_->plan_gradients(pass, rows.take(up_proj_->gradient_width()), false);
    down_proj_->plan_gradients(pass, rows.take(down_proj_->gradient_width()), kOutputFirst && shares(keep));
  }

  /// Numbers a row that Keep::least does without.
  Index up_width() const { return up_; }
  /// Whether recompute is to be called before a backward.
  bool recomputes() const { return recompute_up_; }
  /// x as it was given to forward.
  void recompute(const Pass& pass, const T* x) {
    T *before = before_.at(pass), *after = after_.at(pass);
    up_proj_->forward(pass, x, nullptr, before);
    activate(pass, before, after, slope_);
    site_.recomputed(pass, op(), "y", after, config_.hidden);
  }

  void forward(const Pass& pass, const T* x, const T* residual, T* out) {
    T *before = before_.at(pass), *after = after_.at(pass);
    up_proj_->forward(pass, x, nullptr, before);
    activate(pass, before, after, slope_ && !recompute_ && !recompute_up_);
    site_.see(pass, "forward", op(), "y", after, config_.hidden, [&](Operands& o) { operands(o, before); });
    down_proj_->forward(pass, after, residual, out);
  }

  /// dx is overwritten.
  void backward(const Pass& pass, const T* dout, T* dx) {
    const T* before = before_.at(pass);
    T *dafter = dafter_.at(pass), *dbefore = dbefore_.at(pass);
    const Index rows = pass.rows(), hidden = config_.hidden;
    down_proj_->backward(pass, dout, dafter);
    if (slope_)
      apply_slope(dafter, before, rows * up_, dbefore);
    else if (gated())
      gated_backward(config_.activation.f, dafter, before, before + hidden, rows, hidden, up_, dbefore,
                     dbefore + hidden);
    else
      activation_backward(config_.activation.f, dafter, before, rows * up_, dbefore);
    site_.see(pass, "backward", op(), "dx", dbefore, up_, [&](Operands& o) { operands(o, before, dafter); });
    up_proj_->backward(pass, dbefore, dx);
  }

  /// Before backward.
  void output_gradients(const Pass& pass, const T* dout) {
    if (!down_proj_->trains()) return;
    if (recompute_) {
      activate(pass, before_.at(pass), after_.at(pass), slope_);
      site_.recomputed(pass, op(), "y", after_.at(pass), config_.hidden);
    }
    down_proj_->parameter_gradients(pass, dout, after_.at(pass));
  }
  /// After backward. x as it was given to forward.
  void input_gradients(const Pass& pass, const T* x) { up_proj_->parameter_gradients(pass, dbefore_.at(pass), x); }

 private:
  bool gated() const { return config_.activation.gated; }
  Index behind(const Pass& pass, Keep keep) const { return pass.probe || keep == Keep::least ? up_ : 0; }
  const char* op() const { return config_.activation.op; }

  /// with_slope: the activation's slope takes the place of its argument.
  void activate(const Pass& pass, T* before, T* after, bool with_slope) const {
    const Index rows = pass.rows(), hidden = config_.hidden;
    if (with_slope)
      activation_forward_with_slope(config_.activation.f, before, rows * up_, after);
    else if (gated())
      gated_forward(config_.activation.f, before, before + hidden, rows, hidden, up_, after);
    else
      activation_forward(config_.activation.f, before, rows * up_, after);
  }
  void operands(Operands& o, const T* before, const T* dafter = nullptr) const {
    if (gated())
      gated_operands(o, before, before + config_.hidden, config_.hidden, up_, dafter);
    else
      activation_operands(o, before, config_.hidden, dafter);
  }

  Site site_;
  MlpConfig config_{};
  Index up_ = 0;  // columns of what the up projection gives: hidden, or twice that when gated
  std::unique_ptr<Projection<T>> up_proj_, down_proj_;
  bool recompute_ = false;     // the activation's result is not kept for the gradients of the down projection
  bool recompute_up_ = false;  // nor is its argument kept for backward
  bool slope_ = false;         // when backward begins, before_ holds the activation's slope and no more its argument
  Rows<T> before_, after_, dafter_, dbefore_;
};

}  // namespace loopos
