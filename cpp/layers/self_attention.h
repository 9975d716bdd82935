// Self-attention: fused q, k, v projection, rotary positions, attention by heads in place, output projection.
// qkv rows hold H heads of q, then Hkv of k, then Hkv of v, each of width D.
#pragma once

#include <algorithm>
#include <cmath>

#include "layers/linear.h"
#include "ops/attention_trace.h"
#include "ops/rope.h"

namespace loopos {

struct AttentionConfig {
  Index width, heads, kv_heads;
  bool bias, rope;
  double rope_theta, std, out_std;
};

/// Keys and values of one layer during generation: (B, cached, Hkv, D) each.
template <class T>
struct KeyValueCache {
  T *keys = nullptr, *values = nullptr;
};

template <class T>
class SelfAttention {
 public:
  SelfAttention() = default;
  SelfAttention(ParameterSet<T>& set, Site site, Index dropout_site, const AttentionConfig& config)
      : site_(std::move(site)),
        dropout_site_(dropout_site),
        config_(config),
        head_width_(config.width / config.heads),
        fused_((config.heads + 2 * config.kv_heads) * head_width_),
        qkv_proj_(set, site_ / "qkv_proj", config.width, fused_, config.bias, config.std),
        o_proj_(set, site_ / "o_proj", config.width, config.width, config.bias, config.out_std) {}

  Index fused() const { return fused_; }
  Index kv_width() const { return config_.kv_heads * head_width_; }

  void plan(Arena<T>& arena, const Pass& pass) {
    qkv_ = arena.take(pass.rows() * fused_);
    y_ = arena.take(pass.rows() * config_.width);
    lse_ = arena.take(pass.rows() * config_.heads);
  }

  void visit_weights(WeightVisitor<T>& visitor) {
    qkv_proj_.visit_weights(visitor);
    o_proj_.visit_weights(visitor);
  }

  /// positions (T). cache: null, or where this layer's keys and values are kept during generation.
  void forward(const Pass& pass, const T* x, const Index* positions, const KeyValueCache<T>* cache, const T* residual,
               T* out) {
    T *qkv = pass.at(qkv_, fused_), *y = pass.at(y_, config_.width);
    qkv_proj_.forward(pass, x, nullptr, qkv);
    if (config_.rope) {
      // q and k lie side by side, so one call rotates the heads of both
      const auto qk = heads(pass, qkv, 0);
      const auto before = traced_copy(pass, qkv);
      rope_forward<T>(qk.data, qk.strides, positions, pass.batch, config_.heads + config_.kv_heads, pass.time,
                      head_width_, config_.rope_theta, false, qk.data, qk.strides);
      see_rope(pass, "forward", "qkv", qkv, before);
    }
    AttentionShape shape = shape_of(pass);
    Heads<const T> k = view(heads(pass, qkv, key_offset())), v = view(heads(pass, qkv, value_offset()));
    if (cache) {
      append(pass, *cache);
      shape.keys = pass.start + pass.time;
      const HeadStrides strides{pass.cached * kv_width(), head_width_, kv_width()};
      k = {cache->keys, strides};
      v = {cache->values, strides};
    }
    const AttentionOptions options = options_of(pass);
    if (pass.looking())
      see_attention_scores<T>(view(heads(pass, qkv, 0)), k, shape, options, *pass.probe, site_.layer,
                              site_.name + ".scores");
    attention_forward<T>(view(heads(pass, qkv, 0)), k, v, shape, options, heads_of_y(pass, y),
                         pass.at(lse_, config_.heads));
    if (pass.flags)
      pass.flags->check("forward", site_.layer, "attention", site_.name, "y", y, pass.rows() * config_.width,
                        [&] { return attention_scores_finite<T>(view(heads(pass, qkv, 0)), k, shape, options); });
    site_.see(pass, "forward", "attention", "y", y, {pass.batch, pass.time, config_.width}, [&](Operands& o) {
      attention_operands<T>({view(heads(pass, qkv, 0)), k, v}, shape, options,
                            AttentionElement::of_output(shape, o.index), o);
    });
    o_proj_.forward(pass, y, residual, out);
  }

  /// dx is overwritten. dy (rows, width) is scratch; dqkv (rows, fused) is kept for qkv_gradients.
  void backward(const Pass& pass, const T* dout, const Index* positions, T* dy, T* dqkv, T* dx) {
    T *qkv = pass.at(qkv_, fused_), *y = pass.at(y_, config_.width);
    o_proj_.backward(pass, dout, dy);
    const AttentionShape shape = shape_of(pass);
    const AttentionOptions options = options_of(pass);
    const AttentionOperands<T> x{
        view(heads(pass, qkv, 0)), view(heads(pass, qkv, key_offset())), view(heads(pass, qkv, value_offset())),
        view(heads_of_y(pass, y)), view(heads_of_y(pass, dy)),           pass.at(lse_, config_.heads)};
    attention_backward<T>(x.dy, x.q, x.k, x.v, x.y, x.lse, shape, options, heads(pass, dqkv, 0),
                          heads(pass, dqkv, key_offset()), heads(pass, dqkv, value_offset()));
    site_.see(pass, "backward", "attention", "dqkv", dqkv, {pass.batch, pass.time, fused_}, [&](Operands& o) {
      attention_operands<T>(x, shape, options, AttentionElement::of_fused(shape, o.index), o);
    });
    if (config_.rope) {
      const auto dqk = heads(pass, dqkv, 0);
      const auto before = traced_copy(pass, dqkv);
      rope_backward<T>(dqk.data, dqk.strides, positions, pass.batch, config_.heads + config_.kv_heads, pass.time,
                       head_width_, config_.rope_theta, false, dqk.data, dqk.strides);
      see_rope(pass, "backward", "dqkv", dqkv, before);
    }
    qkv_proj_.backward(pass, dqkv, dx);
  }

  void output_gradients(const Pass& pass, const T* dout) { o_proj_.parameter_gradients(pass, dout, y_); }
  void qkv_gradients(const Pass& pass, const T* x, const T* dqkv) { qkv_proj_.parameter_gradients(pass, dqkv, x); }

 private:
  static Heads<const T> view(Heads<T> x) { return {x.data, x.strides}; }
  Heads<T> heads(const Pass& pass, T* fused, Index offset) const {
    return {fused + offset, {pass.time * fused_, head_width_, fused_}};
  }
  Heads<T> heads_of_y(const Pass& pass, T* y) const {
    return {y, {pass.time * config_.width, head_width_, config_.width}};
  }
  Index key_offset() const { return config_.heads * head_width_; }
  Index value_offset() const { return key_offset() + kv_width(); }
  AttentionShape shape_of(const Pass& pass) const {
    return {pass.batch, config_.heads, config_.kv_heads, pass.time, pass.time, head_width_, head_width_};
  }
  AttentionOptions options_of(const Pass& pass) const {
    AttentionOptions options;
    options.visibility.causal = true;
    options.visibility.start = pass.start;
    options.scale = 1 / std::sqrt(static_cast<double>(head_width_));
    options.dropout = pass.dropout;
    options.seed = pass.stream(dropout_site_);
    options.first_batch = pass.first;
    return options;
  }
  void append(const Pass& pass, const KeyValueCache<T>& cache) const {
    for (Index b = 0; b < pass.batch; ++b)
      for (Index t = 0; t < pass.time; ++t) {
        const T* row = qkv_ + (b * pass.time + t) * fused_;
        const Index at = (b * pass.cached + pass.start + t) * kv_width();
        std::copy(row + key_offset(), row + value_offset(), cache.keys + at);
        std::copy(row + value_offset(), row + fused_, cache.values + at);
      }
  }

  // For a trace

  /// What rope is about to turn in place; empty unless a trace looks.
  std::vector<T> traced_copy(const Pass& pass, const T* fused) const {
    return pass.looking() ? std::vector<T>(fused, fused + pass.rows() * fused_) : std::vector<T>();
  }
  void see_rope(const Pass& pass, const char* phase, const char* tensor, T* fused, const std::vector<T>& before) const {
    site_.see(pass, phase, "rope", tensor, fused, {pass.batch, pass.time, fused_}, [&](Operands& o) {
      set_sizes(pass, o);
      o.take("x", before.data() + o.row() * fused_ + o.column() / head_width_ * head_width_, head_width_);
    });
  }
  void set_sizes(const Pass& pass, Operands& o) const {
    o.set("heads", static_cast<double>(config_.heads));
    o.set("kv_heads", static_cast<double>(config_.kv_heads));
    o.set("head_width", static_cast<double>(head_width_));
    o.set("dropout", pass.dropout);
  }
  Site site_;
  Index dropout_site_ = 0;
  AttentionConfig config_{};
  Index head_width_ = 0, fused_ = 0;
  Linear<T> qkv_proj_, o_proj_;
  T *qkv_ = nullptr, *y_ = nullptr, *lse_ = nullptr;
};

}  // namespace loopos
