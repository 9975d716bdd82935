// A pre-norm transformer block. It owns its activations and their gradients.
//   middle = x + attention(norm(x)),  output = middle + mlp(norm(middle))
#pragma once

#include <array>

#include "layers/attention.h"
#include "layers/mlp.h"
#include "layers/norm.h"
#include "layers/residual.h"

namespace loopos {

struct BlockConfig {
  Index width;
  NormConfig norm;
  AttentionConfig attention;
  MlpConfig mlp;

  static constexpr Index kDropoutSites = 3;  // attention's probabilities and the two branches
};

template <class T>
class Block {
 public:
  Block(ParameterSet<T>& set, const Site& site, Index first_dropout_site, const BlockConfig& config)
      : width_(config.width),
        attn_norm_(set, site / "attn_norm", width_, config.norm),
        attn_(set, site / "attn", first_dropout_site, config.attention),
        attn_residual_(site / "attn_residual", first_dropout_site + 1, width_),
        mlp_norm_(set, site / "mlp_norm", width_, config.norm),
        mlp_(set, site / "mlp", config.mlp),
        mlp_residual_(site / "mlp_residual", first_dropout_site + 2, width_) {}

  Attention<T>& attention() { return attn_; }
  Rows<T> output() const { return output_; }

  bool trains() const {
    bool any = attn_norm_.trains() || mlp_norm_.trains();
    for (auto* projection : projections()) any = any || projection->trains();
    return any;
  }
  void visit_weights(const WeightVisitor<T>& visitor) {
    for (auto* projection : projections()) projection->visit_weights(visitor);
  }

  /// input: what flows into the block, (rows, C).
  void plan(Arena<T>& arena, const Pass& pass, Keep keep, const Workspace<T>& work, Rows<T> input) {
    const auto rows = [&](Rows<T> shared) { return shared.width ? shared : take_rows(arena, pass, width_); };
    recompute_ = keep == Keep::costly;
    input_ = input;
    attn_norm_.plan(arena, pass);
    normed_ = rows(work.normed);
    attn_.plan(arena, pass);
    middle_ = rows({});
    mlp_norm_.plan(arena, pass);
    normed_middle_ = rows(work.normed);
    mlp_.plan(arena, pass, keep, work.hidden);
    output_ = rows(keep == Keep::nothing ? work.stream : Rows<T>{});
  }

  /// Width of the workspace's `hidden`.
  Index hidden_width(const Pass& pass, Keep keep) const {
    return std::max(mlp_.hidden_width(pass, keep), attn_.hidden_width(keep));
  }
  /// doutput: gradient of the output. Returns where that of the input goes.
  Rows<T> plan_gradients(Arena<T>& arena, const Pass& pass, Keep keep, const Workspace<T>& work, Rows<T> doutput) {
    const auto rows = [&](Rows<T> shared) { return shared.width ? shared : take_rows(arena, pass, width_); };
    const auto branch = [&] { return pass.dropout > 0 ? rows(work.dbranch) : Rows<T>{}; };
    doutput_ = doutput;
    dmiddle_ = rows(work.dstream);
    dinput_ = rows(work.dstream);
    dnormed_ = work.dnormed;
    mlp_residual_.plan_gradients(branch());
    attn_residual_.plan_gradients(branch());
    mlp_.plan_gradients(arena, pass, keep, work.hidden);
    attn_.plan_gradients(arena, pass, keep, work.hidden);
    mlp_norm_.plan_gradients(arena, pass, work);
    attn_norm_.plan_gradients(arena, pass, work);
    return dinput_;
  }

  void forward(const Pass& pass) {
    T *x = input_.at(pass), *normed = normed_.at(pass), *middle = middle_.at(pass),
      *normed_middle = normed_middle_.at(pass), *output = output_.at(pass);
    attn_norm_.forward(pass, x, normed);
    attn_.forward(pass, normed, attn_residual_.fused(pass, x), middle);
    attn_residual_.forward(pass, x, middle);
    mlp_norm_.forward(pass, middle, normed_middle);
    mlp_.forward(pass, normed_middle, mlp_residual_.fused(pass, middle), output);
    mlp_residual_.forward(pass, middle, output);
  }

  /// The mirror of forward: from the gradient of the output to that of the input. due(g) is called where the
  /// parameters' gradients g can be taken: everything they need is there, and the next lines may overwrite it.
  template <class Due>
  void backward(const Pass& pass, const Due& due) {
    T *doutput = doutput_.at(pass), *dmiddle = dmiddle_.at(pass), *dnormed = dnormed_.at(pass);
    mlp_residual_.backward(pass, doutput);
    due(&Block::down_gradients);
    mlp_.backward(pass, mlp_residual_.dbranch(pass, doutput), dnormed);
    due(&Block::up_gradients);
    mlp_norm_.backward(pass, middle_.at(pass), dnormed, doutput, dmiddle);
    due(&Block::mlp_norm_gradients);
    attn_residual_.backward(pass, dmiddle);
    attn_.backward(pass, attn_residual_.dbranch(pass, dmiddle), dnormed);
    due(&Block::output_gradients);
    due(&Block::qkv_gradients);
    attn_norm_.backward(pass, input_.at(pass), dnormed, dmiddle, dinput_.at(pass));
    due(&Block::attn_norm_gradients);
  }

  /// The same gradients as tasks, where all they need is kept until every part of the batch is through.
  void gradient_tasks(GradientTasks& tasks) {
    const auto task = [&](Index size, void (Block::*gradients)(const Pass&)) {
      tasks.push_back({size, [this, gradients](const Pass& pass) { (this->*gradients)(pass); }});
    };
    task(mlp_.up_proj().size(), &Block::up_gradients);
    task(mlp_.down_proj().size(), &Block::down_gradients);
    task(attn_.qkv_proj().size(), &Block::qkv_gradients);
    task(attn_.o_proj().size(), &Block::output_gradients);
    task(mlp_norm_.size(), &Block::mlp_norm_gradients);
    task(attn_norm_.size(), &Block::attn_norm_gradients);
  }

 private:
  std::array<Projection<T>*, 4> projections() const {
    return {&attn_.qkv_proj(), &attn_.o_proj(), &mlp_.up_proj(), &mlp_.down_proj()};
  }

  // Gradients of parameters, each of the whole batch.
  void down_gradients(const Pass& pass) { mlp_.down_gradients(pass, mlp_residual_.dbranch(pass, doutput_.at(pass))); }
  void up_gradients(const Pass& pass) {
    if (recompute_ && mlp_.up_proj().trains()) mlp_norm_.recompute(pass, middle_.at(pass), normed_middle_.at(pass));
    mlp_.up_gradients(pass, normed_middle_.at(pass));
  }
  void mlp_norm_gradients(const Pass& pass) {
    mlp_norm_.parameter_gradients(pass, middle_.at(pass), dnormed_.at(pass));
  }
  void output_gradients(const Pass& pass) {
    attn_.output_gradients(pass, attn_residual_.dbranch(pass, dmiddle_.at(pass)));
  }
  void qkv_gradients(const Pass& pass) {
    if (recompute_ && attn_.qkv_proj().trains()) attn_norm_.recompute(pass, input_.at(pass), normed_.at(pass));
    attn_.qkv_gradients(pass, normed_.at(pass));
  }
  void attn_norm_gradients(const Pass& pass) {
    attn_norm_.parameter_gradients(pass, input_.at(pass), dnormed_.at(pass));
  }

  Index width_;
  Norm<T> attn_norm_;
  Attention<T> attn_;
  Residual<T> attn_residual_;
  Norm<T> mlp_norm_;
  Mlp<T> mlp_;
  Residual<T> mlp_residual_;
  bool recompute_ = false;  // what the norms give is not kept for the gradients of the projections behind them
  Rows<T> input_, normed_, middle_, normed_middle_, output_;
  Rows<T> doutput_, dmiddle_, dinput_, dnormed_;
};

}  // namespace loopos
