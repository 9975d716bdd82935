// A transformer block: a branch of attention and one of feed-forward (layers/branch.h). It owns its activations and
// their gradients.
//   middle = x + attention(x),  output = middle + mlp(middle)
// or, in parallel (GPT-NeoX, Black et al., 2022),  output = x + attention(x) + mlp(x).
// With cross-attention a branch of attention to a memory stands between the two.
// A modulation, an adapter, lets what attention adds change the input of the feed-forward.
#pragma once

#include <array>
#include <memory>
#include <optional>

#include "layers/attention.h"
#include "layers/branch.h"
#include "layers/cross_attention.h"
#include "layers/mlp.h"

namespace loopos {

struct BlockConfig {
  Index width;
  NormPlacement placement;
  bool parallel;
  NormConfig norm;
  AttentionConfig attention;
  MlpConfig mlp;
  std::optional<CrossAttentionConfig> cross;  // not in parallel

  static constexpr Index kDropoutSites = 3;  // attention's probabilities and the two branches; that of cross is its own
};

template <class T>
class Block {
 public:
  Block(ParameterSet<T>& set, const Site& site, Index first_dropout_site, const BlockConfig& config)
      : site_(site),
        config_(config),
        attn_(set, site, "attn", first_dropout_site + 1, config.width, config.placement, config.norm,
              first_dropout_site, config.attention),
        cross_(make_cross(set, site, config)),
        mlp_(set, site, "mlp", first_dropout_site + 2, config.width, config.placement, config.norm, config.mlp) {}

  Attention<T>& attention() { return attn_.inner(); }
  /// What its cross-attention, if it has one, sees in every pass from now on.
  void look_at(const Memory<T>& memory) {
    if (cross_) cross_->inner().look_at(memory);
  }
  Rows<T> output() const { return mlp_.output(); }
  Rows<T> doutput() const { return mlp_.doutput(); }
  bool parallel() const { return config_.parallel; }
  bool post_norms() const { return config_.placement.post; }
  /// Numbers a row that Keep::least does without.
  Index repeated_width() const { return mlp_.inner().up_width(); }

  /// From now on what attention adds modulates the input of the feed-forward, until unmodulate.
  void modulate(ParameterSet<T>& set, const ModulationConfig& config) {
    hold(std::make_unique<Modulation<T>>(set, site_ / "modulate", config_.width, config));
  }
  void unmodulate() { hold(nullptr); }
  Modulation<T>* modulation() const { return modulation_.get(); }

  bool trains() const {
    return attn_.trains() || mlp_.trains() || (cross_ && cross_->trains()) || (modulation_ && modulation_->trains());
  }
  void visit_projections(const SlotVisitor<T>& visitor) {
    for (auto* slot : {&attn_.inner().input_proj(), &attn_.inner().output_proj(), &mlp_.inner().input_proj(),
                       &mlp_.inner().output_proj()})
      visitor(*slot);
    if (!cross_) return;
    visitor(cross_->inner().input_proj());
    visitor(cross_->inner().output_proj());
  }
  void visit_weights(const WeightVisitor<T>& visitor) {
    visit_projections([&](auto& projection) { projection->visit_weights(visitor); });
  }

  /// input: what flows into the block, (rows, C).
  void plan(Arena<T>& arena, const Pass& pass, Keep keep, const Workspace<T>& work, Rows<T> input) {
    if (modulation_) modulation_->plan(arena, pass, keep, work);
    attn_.plan(arena, pass, keep, work, input, input, {});
    const Rows<T> middle = attn_.output();
    if (cross_) cross_->plan(arena, pass, keep, work, middle, middle, {});
    const Rows<T> before = cross_ ? cross_->output() : middle;
    mlp_.plan(arena, pass, keep, work, parallel() ? input : before, before,
              keep == Keep::nothing ? work.stream : Rows<T>{});
  }

  /// Width of the workspace's `hidden`.
  Index hidden_width(const Pass& pass, Keep keep) const {
    const Index own = std::max(mlp_.inner().hidden_width(pass, keep), attn_.inner().hidden_width(pass, keep));
    return cross_ ? std::max(own, cross_->inner().hidden_width(pass, keep)) : own;
  }
  /// doutput: gradient of the output. Returns where that of the input goes.
  Rows<T> plan_gradients(Arena<T>& arena, const Pass& pass, Keep keep, const Workspace<T>& work, Rows<T> doutput) {
    const auto rows = [&](Rows<T> shared) { return shared.width ? shared : take_rows(arena, pass, config_.width); };
    const Rows<T> dbefore = rows(parallel() ? work.dmiddle : work.dstream), dinput = rows(work.dstream);
    const Rows<T> dmiddle = cross_ ? rows(work.dstream) : dbefore;
    if (modulation_) modulation_->plan_gradients(arena, pass, keep, work);
    mlp_.plan_gradients(arena, pass, keep, work, doutput, doutput, dbefore);
    if (cross_) cross_->plan_gradients(arena, pass, keep, work, dbefore, dbefore, dmiddle);
    attn_.plan_gradients(arena, pass, keep, work, parallel() ? doutput : dmiddle, dmiddle, dinput);
    return dinput;
  }

  void forward(const Pass& pass) {
    attn_.forward(pass);
    if (cross_) cross_->forward(pass);
    mlp_.forward(pass);
  }

  /// The mirror of forward: from the gradient of the output to that of the input. due: as in Branch::backward.
  template <class Due>
  void backward(const Pass& pass, const Due& due) {
    mlp_.backward(pass, due);
    if (cross_) cross_->backward(pass, due);
    attn_.backward(pass, due);
  }

  void gradient_tasks(GradientTasks& tasks) {
    mlp_.gradient_tasks(tasks);
    if (modulation_) modulation_->gradient_tasks(tasks);
    if (cross_) cross_->gradient_tasks(tasks);
    attn_.gradient_tasks(tasks);
  }

 private:
  static std::unique_ptr<Branch<T, CrossAttention>> make_cross(ParameterSet<T>& set, const Site& site,
                                                               const BlockConfig& c) {
    if (!c.cross) return nullptr;
    return std::make_unique<Branch<T, CrossAttention>>(set, site, "cross", c.cross->dropout_site + 1, c.width,
                                                       c.placement, c.norm, *c.cross);
  }
  void hold(std::unique_ptr<Modulation<T>> modulation) {
    attn_.tell(modulation.get());
    mlp_.modulate(modulation.get());
    modulation_ = std::move(modulation);
  }

  Site site_;
  BlockConfig config_;
  std::unique_ptr<Modulation<T>> modulation_;
  Branch<T, Attention> attn_;
  std::unique_ptr<Branch<T, CrossAttention>> cross_;
  Branch<T, Mlp> mlp_;
};

}  // namespace loopos
