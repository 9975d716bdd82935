// A transformer block: a branch of attention and one of feed-forward (layers/branch.h). It owns its activations and
// their gradients.
//   middle = x + attention(x),  output = middle + mlp(middle)
// or, in parallel (GPT-NeoX, Black et al., 2022),  output = x + attention(x) + mlp(x).
// With cross-attention a branch of attention to a memory stands between the two.
// The last block behind a prefix may give the tokens alone (tokens_alone). In a pass that trains, its feed-forward then
// leaves out the rows of the prefix, whose output nothing reads. Other passes keep all rows.
// A modulation, an adapter, lets what attention adds change the input of the feed-forward.
#pragma once

#include <array>
#include <memory>
#include <optional>

#include "layers/attention.h"
#include "layers/branch.h"
#include "layers/cross_attention.h"
#include "layers/mlp.h"
#include "ops/prepend.h"

namespace loopos {

struct BlockConfig {
  Index width;
  NormPlacement placement;
  bool parallel;
  NormConfig norm;
  AttentionConfig attention;
  MlpConfig mlp;
  std::optional<CrossAttentionConfig> cross;  // not in parallel
  bool tokens_alone = false;                  // whether only the tokens' output is read; not in parallel

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
  /// Whether output and doutput are of the tokens alone, in the pass that was planned last.
  bool narrows() const { return narrows_; }
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
    narrows_ = config_.tokens_alone && pass.prefix > 0 && keep != Keep::nothing && !modulation_;
    if (narrows_) {
      const Pass tokens = tokens_of(pass);
      text_ = take_rows(arena, tokens, config_.width);
      return mlp_.plan(arena, tokens, keep, work, text_, text_, {});
    }
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
    if (narrows_)
      plan_narrow_gradients(arena, pass, keep, work, dbefore);
    else
      mlp_.plan_gradients(arena, pass, keep, work, doutput, doutput, dbefore);
    if (cross_) cross_->plan_gradients(arena, pass, keep, work, dbefore, dbefore, dmiddle);
    attn_.plan_gradients(arena, pass, keep, work, parallel() ? doutput : dmiddle, dmiddle, dinput);
    return dinput;
  }

  void forward(const Pass& pass) {
    attn_.forward(pass);
    if (cross_) cross_->forward(pass);
    if (narrows_) prepend_backward<T>(before().at(pass), prepended(pass), nullptr, text_.at(tokens_of(pass)));
    mlp_.forward(narrows_ ? tokens_of(pass) : pass);
  }

  /// The mirror of forward: from the gradient of the output to that of the input. due: as in Branch::backward.
  template <class Due>
  void backward(const Pass& pass, const Due& due) {
    mlp_.backward(narrows_ ? tokens_of(pass) : pass, due);
    if (narrows_) prepend_forward<T>(nullptr, dtext_.at(tokens_of(pass)), prepended(pass), dbefore_.at(pass));
    if (cross_) cross_->backward(pass, due);
    attn_.backward(pass, due);
  }

  void gradient_tasks(GradientTasks& tasks) {
    if (!config_.tokens_alone) {
      mlp_.gradient_tasks(tasks);
    } else {
      GradientTasks own;
      mlp_.gradient_tasks(own);
      for (auto& [size, run] : own)
        tasks.push_back({size, [this, run](const Pass& whole) { run(narrows_ ? tokens_of(whole) : whole); }});
    }
    if (modulation_) modulation_->gradient_tasks(tasks);
    if (cross_) cross_->gradient_tasks(tasks);
    attn_.gradient_tasks(tasks);
  }

 private:
  static Pass tokens_of(const Pass& pass) { return pass.of_tokens(0); }
  PrependShape prepended(const Pass& pass) const {
    return {pass.batch, pass.prefix, pass.time - pass.prefix, config_.width};
  }
  /// What the feed-forward is given, of all rows.
  Rows<T> before() const { return cross_ ? cross_->output() : attn_.output(); }

  /// Parts of a pass share the workspace and find their rows by the whole pass. The tokens' rows would begin elsewhere, so
  /// they have memory of their own.
  void plan_narrow_gradients(Arena<T>& arena, const Pass& pass, Keep keep, Workspace<T> work, Rows<T> dbefore) {
    const Pass tokens = tokens_of(pass);
    const auto rows = [&](Index width) { return take_rows(arena, tokens, width); };
    const Rows<T> doutput = rows(config_.width);
    dbefore_ = dbefore;
    dtext_ = keep == Keep::all ? rows(config_.width) : doutput;
    if (keep == Keep::all) {
      work.hidden = rows(mlp_.inner().hidden_width(tokens, keep));
      work.dnormed = rows(config_.width);
    }
    mlp_.plan_gradients(arena, tokens, keep, work, doutput, doutput, dtext_);
  }

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
  bool narrows_ = false;
  Rows<T> text_;             // of the tokens: what the feed-forward is given
  Rows<T> dtext_, dbefore_;  // its gradient, of the tokens and of all rows
};

}  // namespace loopos
