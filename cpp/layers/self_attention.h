// Self-attention: fused q, k, v projection, rotary positions, attention by heads in place, output projection.
// qkv rows hold H heads of q, then Hkv of k, then Hkv of v, each of width D.
#pragma once

#include <algorithm>
#include <cmath>

#include "kernels/gemm/gemm.h"
#include "layers/linear.h"
#include "ops/attention.h"
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
    if (pass.looking()) see_scores(pass, qkv);
    attention_forward<T>(view(heads(pass, qkv, 0)), k, v, shape, options, heads_of_y(pass, y),
                         pass.at(lse_, config_.heads));
    if (pass.flags)
      pass.flags->check("forward", site_.layer, "attention", site_.name, "y", y, pass.rows() * config_.width,
                        [&] { return scores_are_finite(pass, qkv); });
    site_.see(pass, "forward", "attention", "y", y, {pass.batch, pass.time, config_.width},
              [&](Operands& o) { take_sequence(pass, o, qkv); });
    o_proj_.forward(pass, y, residual, out);
  }

  /// dx is overwritten. dy (rows, width) is scratch; dqkv (rows, fused) is kept for qkv_gradients.
  void backward(const Pass& pass, const T* dout, const Index* positions, T* dy, T* dqkv, T* dx) {
    T *qkv = pass.at(qkv_, fused_), *y = pass.at(y_, config_.width);
    o_proj_.backward(pass, dout, dy);
    attention_backward<T>(view(heads_of_y(pass, dy)), view(heads(pass, qkv, 0)), view(heads(pass, qkv, key_offset())),
                          view(heads(pass, qkv, value_offset())), view(heads_of_y(pass, y)),
                          pass.at(lse_, config_.heads), shape_of(pass), options_of(pass), heads(pass, dqkv, 0),
                          heads(pass, dqkv, key_offset()), heads(pass, dqkv, value_offset()));
    site_.see(pass, "backward", "attention", "dqkv", dqkv, {pass.batch, pass.time, fused_}, [&](Operands& o) {
      const Index begin = o.index.n[0] * pass.time * config_.width, n = pass.time * config_.width;
      take_sequence(pass, o, qkv);
      o.take("y", y + begin, n);
      o.take("dy", dy + begin, n);
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
  /// One sequence's queries, keys and values (time, fused).
  void take_sequence(const Pass& pass, Operands& o, const T* qkv) const {
    set_sizes(pass, o);
    o.take("qkv", qkv + o.index.n[0] * pass.time * fused_, pass.time * fused_);
  }
  /// The scores never exist as a whole: they are made again, one head at a time. One that overflowed to -inf would pass
  /// for a mask, and nothing after it would tell. Calls body(b, h, t, row, q, k) with the t + 1 that query t sees, of
  /// the query q and the keys k.
  template <class Body>
  void each_score_row(const Pass& pass, T* qkv, Body&& body) const {
    const Index time = pass.time;
    const T scale = static_cast<T>(options_of(pass).scale);
    std::vector<T> scores(static_cast<std::size_t>(time * time));
    const auto q = heads(pass, qkv, 0), k = heads(pass, qkv, key_offset());
    for (Index b = 0; b < pass.batch; ++b)
      for (Index h = 0; h < config_.heads; ++h) {
        const Index kv = h / (config_.heads / config_.kv_heads);
        kernels::gemm_serial(kernels::matrix<T>(q.row(b, h, 0), time, head_width_, fused_),
                             transpose(kernels::matrix<T>(k.row(b, kv, 0), time, head_width_, fused_)),
                             {scores.data(), time});
        for (T& score : scores) score *= scale;
        for (Index t = 0; t < time; ++t) body(b, h, t, scores.data() + t * time, q.row(b, h, t), k.row(b, kv, 0));
      }
  }
  void see_scores(const Pass& pass, T* qkv) const {
    const Index time = pass.time;
    each_score_row(pass, qkv, [&](Index b, Index h, Index t, const T* row, const T* q, const T* k) {
      pass.probe->see(
          "forward", site_.layer, "attention", site_.name + ".scores", row, {pass.batch, config_.heads, time, time},
          [&](Operands& o) {
            set_sizes(pass, o);
            o.take("q", q, head_width_);
            o.take("k", k + o.column() * fused_, head_width_);
          },
          ((b * config_.heads + h) * time + t) * time, t + 1);
    });
  }
  bool scores_are_finite(const Pass& pass, T* qkv) const {
    bool finite = true;
    each_score_row(pass, qkv, [&](Index, Index, Index t, const T* row, const T*, const T*) {
      finite = finite && all_finite(row, t + 1);
    });
    return finite;
  }

  Site site_;
  Index dropout_site_ = 0;
  AttentionConfig config_{};
  Index head_width_ = 0, fused_ = 0;
  Linear<T> qkv_proj_, o_proj_;
  T *qkv_ = nullptr, *y_ = nullptr, *lse_ = nullptr;
};

}  // namespace loopos
