// A projection with low-rank parts (ops/low_rank.h): a kind of Projection around another one, which is frozen. A part
// acts on a range of the output's rows, as the projections of this engine are fused: an adapter of q alone is a part of
// qkv_proj.
#pragma once

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "layers/projection.h"
#include "ops/low_rank.h"

namespace loopos {

/// One low-rank part, as a caller asks for it.
struct LowRankSpec {
  std::string projection, name;  // whose output it acts on; what its parameters are called after
  Index first, rows, rank;       // it acts on rows [first, first + rows) of the output
  double scale, dropout;         // dropout acts on its input, in training steps
};

template <class T>
class Adapted : public Projection<T> {
 public:
  /// Parts of one projection share its input's dropout. Each A is 0 and each B, until they are written.
  Adapted(ParameterSet<T>& set, const Projection<T>& base, Index dropout_site, const std::vector<LowRankSpec>& specs)
      : Projection<T>(base.site(), base.in(), base.out()),
        dropout_site_(dropout_site),
        dropout_(specs.front().dropout) {
    for (const auto& spec : specs) parts_.push_back({nullptr, nullptr, spec.first, spec.rows, spec.rank, spec.scale});
    total_ = total_rank(parts_);
    for (const auto& spec : specs)  // one after another, so that one product takes all of them
      a_.push_back(set.add(spec.name + ".lora_A", {spec.rank, this->in()}, 0, 0, this->site().layer));
    for (const auto& spec : specs)
      b_.push_back(set.add(spec.name + ".lora_B", {spec.rows, spec.rank}, 0, 0, this->site().layer));
  }

  /// From now on, and until it is released, around this projection.
  void wrap(std::unique_ptr<Projection<T>> base) { base_ = std::move(base); }
  std::unique_ptr<Projection<T>> release() { return std::move(base_); }
  void enable(bool on) { on_ = on; }

  void plan(Arena<T>& arena, const Pass& pass, Keep keep) override {
    base_->plan(arena, pass, keep);
    ax_ = take_rows(arena, pass, total_);
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      parts_[i].a = a_[i]->value;
      parts_[i].b = b_[i]->value;
    }
  }
  Index gradient_width() const override { return total_; }
  void plan_gradients(Rows<T> rows, bool gradients_first) override {
    dax_ = rows;
    gradients_first_ = gradients_first && trains();
  }

  void forward(const Pass& pass, const T* x, const T* residual, T* y) override {
    base_->forward(pass, x, residual, y);
    if (!on_) return;
    T* ax = ax_.at(pass);
    low_rank_inner_forward(x, parts_, dropout(pass), pass.rows(), this->in(), ax);
    this->site().see(pass, "forward", "low_rank", "Ax", ax, total_,
                     [&](Operands& o) { low_rank_inner_operands(o, x, parts_, dropout(pass), this->in()); });
    const auto before = traced(pass, y, this->out());
    low_rank_forward(ax, parts_, pass.rows(), this->out(), y);
    this->site().see(pass, "forward", "low_rank", "y", y, this->out(),
                     [&](Operands& o) { low_rank_operands(o, ax, parts_, before.data(), this->out()); });
  }

  void backward(const Pass& pass, const T* dy, T* dx) override {
    base_->backward(pass, dy, dx);
    if (!on_) return;
    if (!gradients_first_) inner_backward(pass, dy);
    const T* dax = dax_.at(pass);
    const auto before = traced(pass, dx, this->in());
    low_rank_backward(dax, parts_, dropout(pass), pass.rows(), this->in(), dx);
    this->site().see(pass, "backward", "low_rank", "dx", dx, this->in(), [&](Operands& o) {
      low_rank_backward_operands(o, dax, parts_, dropout(pass), before.data(), this->in());
    });
  }

  void parameter_gradients(const Pass& pass, const T* dy, const T* x) override {
    base_->parameter_gradients(pass, dy, x);
    if (!on_ || !trains()) return;
    if (gradients_first_) inner_backward(pass, dy);
    const T *ax = ax_.at(pass), *dax = dax_.at(pass);
    std::vector<LowRankGradient<T>> gradients(parts_.size());
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      auto& to = gradients[i];
      if (a_[i]->trainable) to.add_a = !a_[i]->take_stale(), to.a = a_[i]->grad;
      if (b_[i]->trainable) to.add_b = !b_[i]->take_stale(), to.b = b_[i]->grad;
    }
    low_rank_weight_gradients(dy, x, ax, dax, parts_, dropout(pass), pass.rows(), this->in(), this->out(), gradients);
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      if (a_[i]->trainable)
        pass.see_gradient("low_rank", *a_[i], [&](Operands& o) {
          low_rank_a_operands(o, x, dax, parts_, dropout(pass), i, pass.rows(), this->in());
        });
      if (b_[i]->trainable)
        pass.see_gradient("low_rank", *b_[i],
                          [&](Operands& o) { low_rank_b_operands(o, dy, ax, parts_, i, pass.rows(), this->out()); });
    }
  }

  bool trains() const override {
    const auto trainable = [](const Parameter<T>* p) { return p->trainable; };
    return base_->trains() || std::any_of(a_.begin(), a_.end(), trainable) ||
           std::any_of(b_.begin(), b_.end(), trainable);
  }
  Index size() const override { return base_->size(); }
  void visit_weights(const WeightVisitor<T>& visitor) override { base_->visit_weights(visitor); }

 private:
  InputDropout dropout(const Pass& pass) const {
    if (!pass.stochastic || dropout_ == 0) return {};
    return {dropout_, pass.stream(dropout_site_), pass.elements_before(this->in())};
  }
  void inner_backward(const Pass& pass, const T* dy) {
    T* dax = dax_.at(pass);
    low_rank_inner_backward(dy, parts_, pass.rows(), this->out(), dax);
    this->site().see(pass, "backward", "low_rank", "dAx", dax, total_,
                     [&](Operands& o) { low_rank_inner_backward_operands(o, dy, parts_, this->out()); });
  }
  /// What is about to be added to, for a trace.
  static std::vector<T> traced(const Pass& pass, const T* x, Index width) {
    return pass.looking() ? std::vector<T>(x, x + pass.rows() * width) : std::vector<T>();
  }

  std::unique_ptr<Projection<T>> base_;
  Index dropout_site_, total_ = 0;  // total_: the sum of the ranks
  double dropout_;
  LowRanks<T> parts_;
  std::vector<Parameter<T>*> a_, b_;
  bool on_ = true, gradients_first_ = false;
  Rows<T> ax_, dax_;
};

}  // namespace loopos
