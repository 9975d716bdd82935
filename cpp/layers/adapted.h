// A projection with low-rank parts (ops/low_rank.h): a kind of Projection around another one, which is frozen. A part
// acts on a range of the output's rows, as the projections of this engine are fused: an adapter of q alone is a part of
// qkv_proj. A part may give its rows lengths of their own (ops/dora.h). The product z that their gradients need is
// computed again in backward: kept, it would be as large as all other activations together.
#pragma once

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "layers/projection.h"
#include "ops/dora.h"

namespace loopos {

/// One low-rank part, as a caller asks for it.
struct LowRankSpec {
  std::string projection, name;  // whose output it acts on; what its parameters are called after
  Index first, rows, rank;       // it acts on rows [first, first + rows) of the output
  double scale, dropout;         // dropout acts on its input, in training steps
  bool dora;                     // its rows have lengths of their own
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
    gradients_.resize(parts_.size());
    for (const auto& spec : specs) dora_ = dora_ || spec.dora;
    for (const auto& spec : specs)  // one after another, so that one product takes all of them
      a_.push_back(set.add(spec.name + ".lora_A", {spec.rank, this->in()}, 0, 0, this->site().layer));
    for (const auto& spec : specs)
      b_.push_back(set.add(spec.name + ".lora_B", {spec.rows, spec.rank}, 0, 0, this->site().layer));
    for (const auto& spec : specs)
      m_.push_back(spec.dora ? set.add(spec.name + ".lora_magnitude", {spec.rows}, 0, 0, this->site().layer) : nullptr);
    if (!dora_) return;
    const auto out = static_cast<std::size_t>(this->out());
    norms_.resize(out);
    gain_.assign(out, T(1));
    inverse_.resize(out);
  }

  /// From now on, and until it is released, around this projection.
  void wrap(std::unique_ptr<Projection<T>> base) { base_ = std::move(base); }
  std::unique_ptr<Projection<T>> release() { return std::move(base_); }
  void enable(bool on) {
    on_ = on;
    known_.clear();
  }
  /// When its parameters have their places: the magnitudes are such that nothing changes yet.
  void set_out() {
    total_ = total_rank(parts_);
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      parts_[i].a = a_[i]->value;
      parts_[i].b = b_[i]->value;
    }
    if (!dora_) return;
    measure();
    for (std::size_t i = 0; i < parts_.size(); ++i)
      if (m_[i]) std::copy_n(norms_.data() + parts_[i].first, parts_[i].width, m_[i]->value);
  }
  /// The gains. The norms are taken anew where A or B has changed.
  void begin(const Pass& pass) override {
    if (!dora_ || !on_) return;
    measure();
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      const Index c = parts_[i].first;
      if (m_[i]) dora_gains(m_[i]->value, norms_.data() + c, parts_[i].width, gain_.data() + c, inverse_.data() + c);
    }
    pass.see("forward", this->site().layer, "dora", this->site().name, "gain", gain_.data(), {this->out()},
             [&](Operands& o) {
               o.take("norm", norms_.data() + o.column(), 1);
               for (std::size_t i = 0; i < parts_.size(); ++i)
                 if (const Index j = o.column() - parts_[i].first; m_[i] && j >= 0 && j < parts_[i].width)
                   o.take("magnitude", m_[i]->value + j, 1);
             });
  }

  void plan(Arena<T>& arena, const Pass& pass, Keep keep) override {
    base_->plan(arena, pass, keep);
    ax_ = take_rows(arena, pass, total_);
  }
  Index gradient_width() const override { return total_ + (dora_ ? this->out() : 0); }
  void plan_gradients(const Pass& pass, Rows<T> rows, bool gradients_first) override {
    dax_ = rows.behind(pass, 0, total_);
    dz_ = rows.behind(pass, total_, this->out());
    gradients_first_ = gradients_first && trains();
  }

  void forward(const Pass& pass, const T* x, const T* residual, T* y) override {
    if (scaled()) {
      weight().forward(pass, x, nullptr, pass.rows(), y, nullptr);
      this->site().see(pass, "forward", "linear", "y", y, this->out(),
                       [&](Operands& o) { weight().operands(o, x, nullptr); });
    } else {
      base_->forward(pass, x, residual, y);
    }
    if (!on_) return;
    T* ax = ax_.at(pass);
    low_rank_inner_forward(x, parts_, dropout(pass), pass.rows(), this->in(), ax);
    this->site().see(pass, "forward", "low_rank", "Ax", ax, total_,
                     [&](Operands& o) { low_rank_inner_operands(o, x, parts_, dropout(pass), this->in()); });
    const auto before = pass.overwritten(y, this->out());
    low_rank_forward(ax, parts_, pass.rows(), this->out(), y);
    this->site().see(pass, "forward", "low_rank", "y", y, this->out(),
                     [&](Operands& o) { low_rank_operands(o, ax, parts_, before.data(), this->out()); });
    if (scaled()) scale_rows(pass, residual, y);
  }

  void backward(const Pass& pass, const T* dy, T* dx) override {
    dy = through_scale(pass, dy);
    base_->backward(pass, dy, dx);
    if (!on_) return;
    if (!gradients_first_) inner_backward(pass, dy);
    const T* dax = dax_.at(pass);
    const auto before = pass.overwritten(dx, this->in());
    low_rank_backward(dax, parts_, dropout(pass), pass.rows(), this->in(), dx);
    this->site().see(pass, "backward", "low_rank", "dx", dx, this->in(), [&](Operands& o) {
      low_rank_backward_operands(o, dax, parts_, dropout(pass), before.data(), this->in());
    });
  }

  void parameter_gradients(const Pass& pass, const T* dy, const T* x) override {
    base_->parameter_gradients(pass, dy, x);
    if (!on_ || !trains()) return;
    const T* dz = !scaled() ? dy : gradients_first_ ? through_scale(pass, dy) : dz_.at(pass);
    if (gradients_first_) inner_backward(pass, dz);
    const T *ax = ax_.at(pass), *dax = dax_.at(pass);
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      auto& to = gradients_[i];
      to = {};
      if (a_[i]->trainable) to.add_a = !a_[i]->take_stale(), to.a = a_[i]->grad;
      if (b_[i]->trainable) to.add_b = !b_[i]->take_stale(), to.b = b_[i]->grad;
    }
    low_rank_weight_gradients(dz, x, ax, dax, parts_, dropout(pass), pass.rows(), this->in(), this->out(), gradients_);
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      if (a_[i]->trainable)
        pass.see_gradient("low_rank", *a_[i], [&](Operands& o) {
          low_rank_a_operands(o, x, dax, parts_, dropout(pass), i, pass.rows(), this->in());
        });
      if (b_[i]->trainable)
        pass.see_gradient("low_rank", *b_[i],
                          [&](Operands& o) { low_rank_b_operands(o, dz, ax, parts_, i, pass.rows(), this->out()); });
    }
    if (scaled()) magnitude_gradients(pass, dy, x);
  }

  bool trains() const override {
    return base_->trains() || any_trainable(a_) || any_trainable(b_) || any_trainable(m_);
  }
  Index size() const override { return base_->size(); }
  const Weight<T>& weight() const override { return base_->weight(); }
  const Parameter<T>* bias() const override { return base_->bias(); }
  void visit_weights(const WeightVisitor<T>& visitor) override { base_->visit_weights(visitor); }

 private:
  using Parameters = std::vector<Parameter<T>*>;
  static bool any_trainable(const Parameters& list) {
    return std::any_of(list.begin(), list.end(), [](const Parameter<T>* p) { return p && p->trainable; });
  }

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
  /// The lengths of the rows, unless every A and B is what it was when they were taken.
  void measure() {
    std::size_t at = 0;
    bool same = !known_.empty();
    each_matrix([&](const T* values, std::size_t size) {
      same = same && std::memcmp(values, known_.data() + at, size * sizeof(T)) == 0;
      at += size;
    });
    if (same) return;
    known_.clear();  // it keeps its memory
    const ReadRows<T> rows = [&](Index first, Index n, T* to) { weight().read_rows(first, n, to); };
    for (std::size_t i = 0; i < parts_.size(); ++i)
      if (m_[i]) dora_norms(rows, parts_[i], this->in(), norms_.data() + parts_[i].first);
    each_matrix([&](const T* values, std::size_t size) { known_.insert(known_.end(), values, values + size); });
  }
  /// body(values, size) of every A, then of every B.
  template <class Body>
  void each_matrix(Body&& body) const {
    for (const Parameters* list : {&a_, &b_})
      for (const Parameter<T>* p : *list) body(static_cast<const T*>(p->value), static_cast<std::size_t>(p->size));
  }
  bool scaled() const { return dora_ && on_; }
  void scale_rows(const Pass& pass, const T* residual, T* y) {
    const T* bias = this->bias() ? this->bias()->value : nullptr;
    const auto z = pass.overwritten(y, this->out());
    dora_forward(gain_.data(), bias, residual, pass.rows(), this->out(), y);
    this->site().see(pass, "forward", "dora", "y", y, this->out(),
                     [&](Operands& o) { dora_operands(o, z.data(), gain_.data(), bias, residual, this->out()); });
  }
  /// The gradient of z.
  const T* through_scale(const Pass& pass, const T* dy) {
    if (!scaled()) return dy;
    T* dz = dz_.at(pass);
    dora_backward(dy, gain_.data(), pass.rows(), this->out(), dz);
    this->site().see(pass, "backward", "dora", "dz", dz, this->out(),
                     [&](Operands& o) { dora_backward_operands(o, dy, gain_.data(), this->out()); });
    return dz;
  }
  /// After those of A and B: z takes the place of its gradient.
  void magnitude_gradients(const Pass& pass, const T* dy, const T* x) {
    if (!any_trainable(m_)) return;
    T* z = dz_.at(pass);
    const Index rows = pass.rows(), out = this->out();
    weight().forward(pass, x, nullptr, rows, z, nullptr);
    low_rank_forward(static_cast<const T*>(ax_.at(pass)), parts_, rows, out, z);
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      if (!m_[i] || !m_[i]->trainable) continue;
      const Index first = parts_[i].first;
      dora_magnitude_gradient(dy, inverse_.data(), rows, first, parts_[i].width, out, z, m_[i]->sum());
      pass.see_gradient("dora", *m_[i], [&](Operands& o) { o.take("dy", z + first + o.column(), rows, out); });
    }
  }

  std::unique_ptr<Projection<T>> base_;
  Index dropout_site_, total_ = 0;  // total_: the sum of the ranks
  double dropout_;
  LowRanks<T> parts_;
  Parameters a_, b_, m_;  // m_: null where a part's rows keep their lengths
  bool dora_ = false, on_ = true, gradients_first_ = false;
  std::vector<double> norms_;      // of the rows of W + scale B A
  std::vector<T> gain_, inverse_;  // magnitude / norm, 1 for other rows; 1 / norm
  std::vector<T> known_;           // A and B as they were when the norms were taken
  std::vector<LowRankGradient<T>> gradients_;
  Rows<T> ax_, dax_, dz_;
};

}  // namespace loopos
