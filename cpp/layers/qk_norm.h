// RMS norm of the queries and keys of a fused projection, before rotary positions: of each head's D numbers, with one
// weight (D) for all heads (Qwen 3, Gemma 3), or of all heads together (OLMo 2). The result lies beside the projection,
// which backward needs as it was: rows of H heads of q, then Hkv of k.
#pragma once

#include "layers/norm.h"

namespace loopos {

enum class QkNormKind { none, head, full };
struct QkNormChoice {
  const char* name;
  QkNormKind kind;
};
constexpr QkNormChoice kQkNorms[] = {
    {"none", QkNormKind::none}, {"head", QkNormKind::head}, {"full", QkNormKind::full}};

struct QkNormConfig {
  QkNormKind kind;
  bool unit_offset;
  double eps;
};

template <class T>
class QkNorm {
 public:
  QkNorm() = default;
  /// Of q or k in rows of `fused` numbers.
  QkNorm(ParameterSet<T>& set, Site site, Index heads, Index kv_heads, Index head_width, Index fused,
         const QkNormConfig& config)
      : site_(std::move(site)),
        config_(config),
        heads_(heads),
        kv_heads_(kv_heads),
        head_width_(head_width),
        width_((heads + kv_heads) * head_width),
        fused_(fused) {
    if (config.kind == QkNormKind::none) return;
    const auto side = [&](const char* name, Index first, Index count) {
      const Index n = config.kind == QkNormKind::head ? head_width : count * head_width;
      sides_.push_back({(site_ / name).add(set, "weight", {n}, config.unit_offset ? 0 : 1, 0), first * head_width,
                        count * head_width / n, n});
    };
    side("q_norm", 0, heads);
    side("k_norm", heads, kv_heads);
  }

  bool present() const { return !sides_.empty(); }
  Index width() const { return width_; }
  Index size() const { return width_; }
  bool trains() const {
    return std::any_of(sides_.begin(), sides_.end(), [](const Side& side) { return side.weight->trainable; });
  }

  void plan(Arena<T>& arena, const Pass& pass) {
    if (!present()) return;
    y_ = take_rows(arena, pass, width_);
    for (auto& side : sides_) side.rstd = take_rows(arena, pass, side.group);
  }
  void plan_gradients(Arena<T>& arena, const Pass& pass) {
    for (auto& side : sides_) side.slots = arena.take(side.count_slots(pass.batch, pass.time) * side.n);
  }

  T* result(const Pass& pass) const { return y_.at(pass); }

  /// qkv (rows, fused); gives result().
  void forward(const Pass& pass, const T* qkv) {
    T* y = y_.at(pass);
    for (auto& side : sides_)
      norm_forward<T>(NormKind::rms, qkv + side.first, factors(side), nullptr, pass.rows() * side.group, side.n,
                      config_.eps, y + side.first, nullptr, side.rstd.at(pass), {side.group, fused_},
                      {side.group, width_});
    site_.see(pass, "forward", kOp, "qk", y, width_, [&](Operands& o) {
      const Element at = element(o);
      set_heads(o);
      norm_operands(o, rows(pass, *at.side, qkv), at.row, at.channel);
    });
    for (auto& side : sides_)
      if (pass.looking())
        pass.probe->count_eps_rows(rows_below_eps(side.rstd.at(pass), pass.rows() * side.group, config_.eps));
  }

  /// qkv as it was given to forward. dqkv (rows, fused): the gradient of the result, in the place of q and k, becomes
  /// that of qkv.
  void backward(const Pass& pass, const T* qkv, T* dqkv) {
    if (pass.looking()) dy_.assign(dqkv, dqkv + pass.rows() * fused_);
    for (auto& side : sides_) {
      const RowPlaces places{side.group, fused_};
      T* slots = side.slots + side.count_slots(pass.first, pass.time) * side.n;
      norm_backward_rows<T>(NormKind::rms, dqkv + side.first, qkv + side.first, factors(side), side.rstd.at(pass),
                            nullptr, pass.rows() * side.group, pass.time * side.group, side.n, dqkv + side.first,
                            side.weight->trainable ? slots : nullptr, nullptr, side.n, places, places);
    }
    site_.see(pass, "backward", kOp, "dqkv", dqkv, fused_, [&](Operands& o) {
      set_heads(o);
      if (o.column() >= width_) return;  // v, which passes by
      const Element at = element(o);
      const T* dy = dy_.data() + at.side->first + RowPlaces{at.side->group, fused_}.at(at.row, at.side->n);
      norm_backward_operands<T>(o, rows(pass, *at.side, qkv), at.row, at.channel, dy, nullptr);
    });
  }

  /// Of the whole batch, after backward.
  void parameter_gradients(const Pass& pass, const T* qkv) {
    for (auto& side : sides_) {
      if (!side.weight->trainable) continue;
      add_column_sums(side.slots, side.count_slots(pass.batch, pass.time), side.n, side.n, side.weight->sum());
      pass.see_gradient(kOp, *side.weight, [&](Operands& o) {
        norm_weight_gradient_operands<T>(o, rows(pass, side, qkv), dy_.data() + side.first, pass.rows() * side.group,
                                         {side.group, fused_});
      });
    }
  }

 private:
  static constexpr const char* kOp = "rms_norm";

  /// q or k: `group` rows of n numbers in each token's row, from number `first` on.
  struct Side {
    Parameter<T>* weight;
    Index first, group, n;
    Rows<T> rstd{};
    T* slots = nullptr;

    Index count_slots(Index batch, Index time) const { return norm_slots(batch * time * group, time * group, n); }
  };
  /// A number of a token's row: which norm it is of, and its place there.
  struct Element {
    const Side* side;
    Index row, channel;
  };
  Element element(const Operands& o) const {
    const Side& side = sides_[o.column() < sides_[1].first ? 0 : 1];
    const Index at = o.column() - side.first;
    return {&side, o.row() * side.group + at / side.n, at % side.n};
  }

  void set_heads(Operands& o) const {
    o.set("heads", heads_);
    o.set("kv_heads", kv_heads_);
    o.set("head_width", head_width_);
  }
  const T* factors(const Side& side) const { return norm_factors<T>(side.weight->value, side.n, config_.unit_offset); }
  NormRows<T> rows(const Pass& pass, const Side& side, const T* qkv) const {
    return {qkv + side.first,   factors(side), nullptr,     nullptr,
            side.rstd.at(pass), side.n,        config_.eps, {side.group, fused_}};
  }

  Site site_;
  QkNormConfig config_{};
  Index heads_ = 0, kv_heads_ = 0, head_width_ = 0, width_ = 0, fused_ = 0;
  std::vector<Side> sides_;  // of q and of k; empty: none
  Rows<T> y_;
  std::vector<T> dy_;  // for a trace: backward works in place
};

}  // namespace loopos
