// Multi-head self-attention: fused q, k, v projection, norms of q and k or none, rotary positions, attention by heads
// in place, output projection. Rows of qkv hold H heads of q, then Hkv of k, then Hkv of v, each of width D, which need
// not be C / H.
#pragma once

#include <algorithm>

#include "layers/projection.h"
#include "layers/qk_norm.h"
#include "ops/attention_trace.h"
#include "ops/rope.h"

namespace loopos {

struct AttentionConfig {
  Index width, heads, kv_heads, head_width;
  Visibility visibility;
  double scale;  // of the scores
  bool qkv_bias, out_bias;
  QkNormConfig qk_norm;
  std::vector<double> frequencies;  // of rotary positions, a pair each; empty: none
  double rope_factor;               // on cos and sin
  double std, out_std;
};

/// Keys and values of one layer during generation: (B, cached, Hkv, D) each.
template <class T>
struct KeyValueCache {
  T *keys = nullptr, *values = nullptr;
};

template <class T>
class Attention {
 public:
  Attention() = default;
  Attention(ParameterSet<T>& set, Site site, Index dropout_site, const AttentionConfig& config)
      : site_(std::move(site)),
        dropout_site_(dropout_site),
        config_(config),
        precision_(&set.precision),
        qkv_width_((config.heads + 2 * config.kv_heads) * config.head_width),
        qkv_proj_(make_projection(set, site_ / "qkv_proj", {config.width, qkv_width_, config.qkv_bias, config.std})),
        qk_norm_(set, site_, config.heads, config.kv_heads, config.head_width, qkv_width_, config.qk_norm),
        o_proj_(make_projection(set, site_ / "o_proj", {y_width(), config.width, config.out_bias, config.out_std})) {}

  std::unique_ptr<Projection<T>>& input_proj() { return qkv_proj_; }
  std::unique_ptr<Projection<T>>& output_proj() { return o_proj_; }
  bool trains() const { return qkv_proj_->trains() || qk_norm_.trains() || o_proj_->trains(); }
  static constexpr bool kOutputFirst = false;
  bool recomputes() const { return false; }
  void recompute(const Pass&, const T*) {}

  void plan(Arena<T>& arena, const Pass& pass, Keep keep, Rows<T>) {
    qkv_proj_->plan(arena, pass, keep);
    o_proj_->plan(arena, pass, keep);
    qk_norm_.plan(arena, pass);
    qkv_ = take_rows(arena, pass, qkv_width_);
    y_ = take_rows(arena, pass, y_width());
    lse_ = take_rows(arena, pass, config_.heads);
  }

  /// Numbers a row of `hidden` that backward needs: the gradient of y, and behind it, unless they are kept, that of qkv
  /// and the projections' own.
  Index hidden_width(const Pass&, Keep keep) const {
    return y_width() + (keep == Keep::all ? 0 : qkv_width_ + qkv_proj_->gradient_width() + o_proj_->gradient_width());
  }
  void plan_gradients(Arena<T>& arena, const Pass& pass, Keep keep, Rows<T> hidden) {
    dy_ = hidden;
    GradientRows<T> rows(arena, pass, keep, hidden, y_width());
    dqkv_ = rows.take(qkv_width_);
    qkv_proj_->plan_gradients(pass, rows.take(qkv_proj_->gradient_width()), false);
    o_proj_->plan_gradients(pass, rows.take(o_proj_->gradient_width()), false);
    qk_norm_.plan_gradients(arena, pass);
  }

  /// Numbers of one token in the cache: its keys, or its values.
  Index cache_width() const { return config_.kv_heads * config_.head_width; }
  void plan_cache(KeyValueCache<T> cache) { cache_ = cache; }
  const KeyValueCache<T>& cache() const { return cache_; }

  void forward(const Pass& pass, const T* x, const T* residual, T* out) {
    T *qkv = qkv_.at(pass), *y = y_.at(pass);
    qkv_proj_->forward(pass, x, nullptr, qkv);
    if (qk_norm_.present()) qk_norm_.forward(pass, qkv);
    if (rotates()) turn(rope_forward<T>, pass, "forward", qk_norm_.present() ? "qk" : "qkv", qk(pass), qk_width());
    AttentionShape shape = shape_of(pass);
    AttentionOperands<T> in = operands(pass);
    if (pass.cached) {
      append(pass);
      shape.keys = pass.start + pass.time;
      const HeadStrides strides{pass.cached * cache_width(), config_.head_width, cache_width()};
      in.k = {cache_.keys, strides};
      in.v = {cache_.values, strides};
    }
    const AttentionOptions options = options_of(pass);
    if (pass.looking())
      see_attention_scores<T>(in.q, in.k, shape, options, *pass.probe, site_.layer, site_.name + ".scores");
    attention_forward<T>(in.q, in.k, in.v, shape, options, heads_of_y(pass, y), lse_.at(pass));
    if (pass.flags)
      pass.flags->check("forward", site_.layer, "attention", site_.name, "y", y, pass.rows() * y_width(),
                        [&] { return attention_scores_finite<T>(in.q, in.k, shape, options); });
    site_.see(pass, "forward", "attention", "y", y, y_width(), [&](Operands& o) {
      attention_operands<T>({in.q, in.k, in.v}, shape, options, AttentionElement::of_output(shape, o.index), o);
    });
    o_proj_->forward(pass, y, residual, out);
  }

  /// dx is overwritten.
  void backward(const Pass& pass, const T* dout, T* dx) {
    T *dy = dy_.at(pass), *dqkv = dqkv_.at(pass);
    o_proj_->backward(pass, dout, dy);
    const AttentionShape shape = shape_of(pass);
    const AttentionOptions options = options_of(pass);
    AttentionOperands<T> in = operands(pass);
    in.y = view(heads_of_y(pass, y_.at(pass)));
    in.dy = view(heads_of_y(pass, dy));
    in.lse = lse_.at(pass);
    attention_backward<T>(in.dy, in.q, in.k, in.v, in.y, in.lse, shape, options, heads(pass, dqkv, qkv_width_, 0),
                          heads(pass, dqkv, qkv_width_, key_offset()), heads(pass, dqkv, qkv_width_, value_offset()));
    site_.see(pass, "backward", "attention", "dqkv", dqkv, qkv_width_, [&](Operands& o) {
      attention_operands<T>(in, shape, options, AttentionElement::of_fused(shape, o.index), o);
    });
    if (rotates()) turn(rope_backward<T>, pass, "backward", "dqkv", dqkv, qkv_width_);
    if (qk_norm_.present()) qk_norm_.backward(pass, qkv_.at(pass), dqkv);
    qkv_proj_->backward(pass, dqkv, dx);
  }

  void output_gradients(const Pass& pass, const T* dout) { o_proj_->parameter_gradients(pass, dout, y_.at(pass)); }
  /// After backward. x as it was given to forward.
  void input_gradients(const Pass& pass, const T* x) {
    qk_norm_.parameter_gradients(pass, qkv_.at(pass));
    qkv_proj_->parameter_gradients(pass, dqkv_.at(pass), x);
  }

 private:
  static Heads<const T> view(Heads<T> x) { return {x.data, x.strides}; }
  /// The heads from number `offset` of a row on.
  Heads<T> heads(const Pass& pass, T* rows, Index row_width, Index offset) const {
    return {rows + offset, {pass.time * row_width, config_.head_width, row_width}};
  }
  Heads<T> heads_of_y(const Pass& pass, T* y) const {
    return {y, {pass.time * y_width(), config_.head_width, y_width()}};
  }
  AttentionOperands<T> operands(const Pass& pass) const {
    return {view(heads(pass, qk(pass), qk_width(), 0)), view(heads(pass, qk(pass), qk_width(), key_offset())),
            view(heads(pass, qkv_.at(pass), qkv_width_, value_offset()))};
  }
  /// Rows that begin with what attention takes as q and k.
  T* qk(const Pass& pass) const { return qk_norm_.present() ? qk_norm_.result(pass) : qkv_.at(pass); }
  Index qk_width() const { return qk_norm_.present() ? qk_norm_.width() : qkv_width_; }
  bool rotates() const { return !config_.frequencies.empty(); }
  Index y_width() const { return config_.heads * config_.head_width; }
  Index key_offset() const { return y_width(); }
  Index value_offset() const { return key_offset() + cache_width(); }
  AttentionShape shape_of(const Pass& pass) const {
    return {pass.batch, config_.heads, config_.kv_heads, pass.time, pass.time, config_.head_width, config_.head_width};
  }
  AttentionOptions options_of(const Pass& pass) const {
    AttentionOptions options;
    options.visibility = config_.visibility;
    options.visibility.start = pass.start;
    options.begins = pass.begins;
    options.scale = config_.scale;
    options.dropout = pass.dropout;
    options.seed = pass.stream(dropout_site_);
    options.first_batch = pass.sequences_before();
    options.precision = *precision_;
    return options;
  }
  /// Rotary positions, in place: q and k lie side by side, so one call turns the heads of both.
  template <class Rope>
  void turn(Rope rope, const Pass& pass, const char* phase, const char* tensor, T* x, Index row_width) const {
    const auto qk = heads(pass, x, row_width, 0);
    const Rotation rotation{config_.frequencies.data(), 2 * static_cast<Index>(config_.frequencies.size()),
                            config_.rope_factor};
    const std::vector<T> before = pass.overwritten(x, row_width);
    rope(qk.data, qk.strides, pass.positions, pass.batch, config_.heads + config_.kv_heads, pass.time,
         config_.head_width, rotation, qk.data, qk.strides);
    site_.see(pass, phase, "rope", tensor, x, row_width, [&](Operands& o) {
      o.set("heads", config_.heads);
      o.set("kv_heads", config_.kv_heads);
      o.set("head_width", config_.head_width);
      o.set("dropout", pass.dropout);
      rope_operands(o, before.data(), row_width, config_.head_width, rotation);
    });
  }
  void append(const Pass& pass) const {
    for (Index b = 0; b < pass.batch; ++b)
      for (Index t = 0; t < pass.time; ++t) {
        const T *row = qkv_.data + (b * pass.time + t) * qkv_width_,
                *qk_row = qk(pass) + (b * pass.time + t) * qk_width();
        const Index at = (b * pass.cached + pass.start + t) * cache_width();
        std::copy(qk_row + key_offset(), qk_row + value_offset(), cache_.keys + at);
        std::copy(row + value_offset(), row + qkv_width_, cache_.values + at);
      }
  }

  Site site_;
  Index dropout_site_ = 0;
  AttentionConfig config_{};
  const Precision* precision_ = nullptr;  // the set's, which a run may change
  Index qkv_width_ = 0;
  std::unique_ptr<Projection<T>> qkv_proj_;
  QkNorm<T> qk_norm_;
  std::unique_ptr<Projection<T>> o_proj_;
  KeyValueCache<T> cache_;
  Rows<T> qkv_, y_, lse_, dy_, dqkv_;
};

}  // namespace loopos
