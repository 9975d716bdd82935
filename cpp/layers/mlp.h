// The feed-forward part of a block: up projection, activation, down projection; or the gated form silu(gate) * up with
// gate and up in one projection (gate rows first).
#pragma once

#include <optional>

#include "layers/linear.h"
#include "ops/activation.h"
#include "ops/swiglu.h"

namespace loopos {

struct MlpConfig {
  Index width, hidden;
  std::optional<Activation> activation;  // none: swiglu
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
        up_(config.activation ? config.hidden : 2 * config.hidden),
        up_proj_(set, site_ / (config.activation ? "up_proj" : "gate_up_proj"), config.width, up_, config.bias,
                 config.std),
        down_proj_(set, site_ / "down_proj", config.hidden, config.width, config.bias, config.out_std) {}

  /// Columns of what the up projection gives: hidden, or twice that when gated.
  Index up() const { return up_; }

  /// after (rows, hidden): where the activation's result goes; null: into memory of its own, kept for down_gradients.
  void plan(Arena<T>& arena, const Pass& pass, bool training, T* after) {
    slope_ = training && config_.activation && !pass.probe;
    before_ = arena.take(pass.rows() * up_);
    after_ = after ? after : arena.take(pass.rows() * config_.hidden);
  }

  void visit_weights(WeightVisitor<T>& visitor) {
    up_proj_.visit_weights(visitor);
    down_proj_.visit_weights(visitor);
  }

  void forward(const Pass& pass, const T* x, const T* residual, T* out) {
    T *before = pass.at(before_, up_), *after = pass.at(after_, config_.hidden);
    up_proj_.forward(pass, x, nullptr, before);
    activate(pass, before, after, slope_ && pass.packed);
    site_.see(pass, "forward", op(), "y", after, {pass.batch, pass.time, config_.hidden},
              [&](Operands& o) { take_inputs(o, before); });
    down_proj_.forward(pass, after, residual, out);
  }

  /// dx is overwritten. dafter (rows, hidden) is scratch; dbefore (rows, up) is kept for up_gradients,
  /// and may be dafter where up is hidden.
  void backward(const Pass& pass, const T* dout, T* dafter, T* dbefore, T* dx) {
    const T* before = pass.at(before_, up_);
    down_proj_.backward(pass, dout, dafter);
    if (slope_)
      apply_slope(dafter, before, pass.rows() * up_, dbefore);
    else if (config_.activation)
      activation_backward(*config_.activation, dafter, before, pass.rows() * up_, dbefore);
    else
      swiglu_backward(dafter, before, before + config_.hidden, pass.rows(), config_.hidden, up_, dbefore,
                      dbefore + config_.hidden);
    site_.see(pass, "backward", op(), "dx", dbefore, {pass.batch, pass.time, up_}, [&](Operands& o) {
      take_inputs(o, before);
      o.take("dy", dafter + o.row() * config_.hidden + o.column() % config_.hidden, 1);
    });
    up_proj_.backward(pass, dbefore, dx);
  }

  /// again: the activation's result was not kept and is computed once more, before backward.
  void down_gradients(const Pass& pass, const T* dout, bool again) {
    if (again) {
      activate(pass, before_, after_, slope_);
      site_.again(pass, "forward", op(), "y", after_, pass.rows() * config_.hidden);
    }
    down_proj_.parameter_gradients(pass, dout, after_);
  }
  void up_gradients(const Pass& pass, const T* x, const T* dbefore) { up_proj_.parameter_gradients(pass, dbefore, x); }

 private:
  /// with_slope: the activation's slope takes the place of its argument.
  void activate(const Pass& pass, T* before, T* after, bool with_slope) const {
    if (with_slope)
      activation_forward_with_slope(*config_.activation, before, pass.rows() * up_, after);
    else if (config_.activation)
      activation_forward(*config_.activation, before, pass.rows() * up_, after);
    else
      swiglu_forward(before, before + config_.hidden, pass.rows(), config_.hidden, up_, after);
  }
  const char* op() const {
    if (!config_.activation) return "swiglu";
    return *config_.activation == Activation::relu ? "relu" : "gelu";
  }

  void take_inputs(Operands& o, const T* before) const {
    const T* at = before + o.row() * up_ + o.column() % config_.hidden;
    if (config_.activation) return o.take("x", at, 1);
    o.set("hidden", static_cast<double>(config_.hidden));
    o.take("gate", at, 1);
    o.take("up", at + config_.hidden, 1);
  }

  Site site_;
  MlpConfig config_{};
  Index up_ = 0;
  Linear<T> up_proj_, down_proj_;
  bool slope_ = false;  // when backward begins, before_ holds the activation's slope and no more its argument
  T *before_ = nullptr, *after_ = nullptr;
};

}  // namespace loopos
