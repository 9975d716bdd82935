// A branch of the residual stream, of attention or of a feed-forward:
//   out = skip + dropout(post(inner(pre(x))))
// Either norm may be absent. skip is x itself, or what other branches made of it. A modulation (layers/modulation.h) is
// told what one branch adds, which then stands apart, and changes what another's inner layer is given.
#pragma once

#include "layers/modulation.h"
#include "layers/norm.h"
#include "layers/residual.h"

namespace loopos {

/// Where norms stand: before what a branch does (GPT-2, Llama), after it (OLMo 2), or both (Gemma 3).
struct NormPlacement {
  const char* name;
  bool pre, post;
};
constexpr NormPlacement kNormPlacements[] = {{"pre", true, false}, {"post", false, true}, {"both", true, true}};

template <class T, template <class> class Inner>
class Branch {
 public:
  /// name: of the inner layer, "attn" or "mlp"; its norms and its residual are called after it.
  template <class... Arguments>
  Branch(ParameterSet<T>& set, const Site& block, const std::string& name, Index dropout_site, Index width,
         NormPlacement placement, const NormConfig& norm, const Arguments&... inner)
      : width_(width),
        placement_(placement),
        pre_(placement.pre ? Norm<T>(set, block / (name + "_norm"), width, norm) : Norm<T>()),
        inner_(set, block / name, inner...),
        post_(placement.post ? Norm<T>(set, block / (name + "_post_norm"), width, norm) : Norm<T>()),
        residual_(block / (name + "_residual"), dropout_site, width, !placement.post) {}

  Inner<T>& inner() { return inner_; }
  const Inner<T>& inner() const { return inner_; }
  Rows<T> output() const { return out_; }
  Rows<T> doutput() const { return dout_; }
  /// Null: none. Its parameters are the block's.
  void tell(Modulation<T>* modulation) { told_ = modulation; }
  void modulate(Modulation<T>* modulation) { modulation_ = modulation; }
  bool trains() const {
    return (placement_.pre && pre_.trains()) || (placement_.post && post_.trains()) || inner_.trains();
  }

  /// x, skip: (rows, C). shared: where the output goes; memory of its own where that is empty.
  void plan(Arena<T>& arena, const Pass& pass, Keep keep, const Workspace<T>& work, Rows<T> x, Rows<T> skip,
            Rows<T> shared) {
    recompute_ = shares(keep) && placement_.pre;
    x_ = normed_ = x;
    skip_ = skip;
    if (placement_.pre) {
      pre_.plan(arena, pass);
      normed_ = rows(arena, pass, work.normed);
    }
    inner_.plan(arena, pass, keep, work.hidden);
    if (placement_.post) {
      raw_ = rows(arena, pass, {});
      post_.plan(arena, pass);
    }
    out_ = rows(arena, pass, shared);
  }

  /// dout: gradient of the output. around: what comes to x by other ways. dx: where the sum of that and of what comes
  /// through the branch goes; it may be `around`, or dout.
  void plan_gradients(Arena<T>& arena, const Pass& pass, Keep keep, const Workspace<T>& work, Rows<T> dout,
                      Rows<T> around, Rows<T> dx) {
    dout_ = dout;
    around_ = around;
    dx_ = dx;
    dnormed_ = work.dnormed;
    residual_.plan_gradients(told_ || pass.dropout > 0 ? rows(arena, pass, work.dbranch) : Rows<T>{});
    if (placement_.post) {
      draw_ = rows(arena, pass, work.draw);
      post_.plan_gradients(arena, pass, work);
    }
    inner_.plan_gradients(arena, pass, keep, work.hidden);
    if (placement_.pre) pre_.plan_gradients(arena, pass, work);
  }

  void forward(const Pass& pass) {
    T *normed = normed_.at(pass), *skip = skip_.at(pass), *out = out_.at(pass);
    T* branch = tells() ? told_->branch(pass) : out;
    if (placement_.pre) pre_.forward(pass, x_.at(pass), normed);
    const T* x = modulated() ? modulation_->forward(pass, normed) : normed;
    inner_.forward(pass, x, residual_.fused(pass, skip, tells()), placement_.post ? raw_.at(pass) : branch);
    if (placement_.post) post_.forward(pass, raw_.at(pass), branch);
    residual_.forward(pass, skip, branch, out);
  }

  /// The mirror of forward. due(g) is called where the parameters' gradients g() can be taken: everything they need is
  /// there, and the next lines may overwrite it.
  template <class Due>
  void backward(const Pass& pass, const Due& due) {
    T *dnormed = dnormed_.at(pass), *dx = dx_.at(pass);
    residual_.backward(pass, dout_.at(pass), tells() ? told_->dbranch(pass) : nullptr);
    if (placement_.post) {
      post_.backward(pass, raw_.at(pass), dbranch(pass), nullptr, draw_.at(pass));
      due([&] { post_gradients(pass); });
    }
    if (inner_.recomputes()) {
      if (recompute_) pre_.recompute(pass, x_.at(pass), normed_.at(pass));
      inner_.recompute(pass, normed_.at(pass));
    }
    if (Inner<T>::kOutputFirst) due([&] { output_gradients(pass); });
    inner_.backward(pass, dinner(pass), dnormed);
    if (!Inner<T>::kOutputFirst) due([&] { output_gradients(pass); });
    due([&] { input_gradients(pass); });
    if (modulated()) {
      if (recompute_ && modulation_->gated()) pre_.recompute(pass, x_.at(pass), normed_.at(pass));
      modulation_->backward(pass, normed_.at(pass), dnormed, due);
    }
    if (placement_.pre) {
      pre_.backward(pass, x_.at(pass), dnormed, around_.at(pass), dx);
      due([&] { pre_gradients(pass); });
    } else {
      residual_.join(pass, dnormed, around_.at(pass), dx);
    }
  }

  /// The same gradients as tasks, where all they need is kept until every part of the batch is through.
  void gradient_tasks(GradientTasks& tasks) {
    const auto task = [&](Index size, void (Branch::*gradients)(const Pass&)) {
      tasks.push_back({size, [this, gradients](const Pass& pass) { (this->*gradients)(pass); }});
    };
    task(inner_.input_proj()->size(), &Branch::input_gradients);
    task(inner_.output_proj()->size(), &Branch::output_gradients);
    if (placement_.pre) task(pre_.size(), &Branch::pre_gradients);
    if (placement_.post) task(post_.size(), &Branch::post_gradients);
  }

 private:
  Rows<T> rows(Arena<T>& arena, const Pass& pass, Rows<T> shared) const {
    return shared.width ? shared : take_rows(arena, pass, width_);
  }
  bool tells() const { return told_ && told_->on(); }
  bool modulated() const { return modulation_ && modulation_->on(); }
  /// Gradient of what the residual adds, and of what the inner layer gives.
  const T* dbranch(const Pass& pass) const { return residual_.dbranch(pass, dout_.at(pass), tells()); }
  const T* dinner(const Pass& pass) const { return placement_.post ? draw_.at(pass) : dbranch(pass); }

  // Gradients of parameters, each of the whole batch.
  void output_gradients(const Pass& pass) { inner_.output_gradients(pass, dinner(pass)); }
  void input_gradients(const Pass& pass) {  // behind a modulation the projection is frozen: it needs no other input
    if (recompute_ && !inner_.recomputes() && inner_.input_proj()->trains())
      pre_.recompute(pass, x_.at(pass), normed_.at(pass));
    inner_.input_gradients(pass, normed_.at(pass));
  }
  void pre_gradients(const Pass& pass) { pre_.parameter_gradients(pass, x_.at(pass), dnormed_.at(pass)); }
  void post_gradients(const Pass& pass) { post_.parameter_gradients(pass, raw_.at(pass), dbranch(pass)); }

  Index width_;
  NormPlacement placement_;
  Norm<T> pre_;
  Inner<T> inner_;
  Norm<T> post_;
  Residual<T> residual_;
  Modulation<T>*told_ = nullptr, *modulation_ = nullptr;
  bool recompute_ = false;  // what pre gives is not kept for the gradients of the projection behind it
  Rows<T> x_, skip_, normed_, raw_, out_;
  Rows<T> dout_, around_, dx_, dnormed_, draw_;
};

}  // namespace loopos
