// Multi-head attention of a stream to a memory, rows of another sequence (Vaswani et al., 2017): q projection, attention
// by heads in place, output projection. No row is hidden, and nothing turns by position.
//
// Keys and values are not made here. Whoever holds the memory projects it once for all blocks: a row of it has for each
// block, one after another, Hkv heads of k, then Hkv of v, each of width D. The gradients of a block's own go to its
// place in the gradient of those rows, so that the product backward through the projection sums over blocks.
#pragma once

#include <algorithm>

#include "layers/projection.h"
#include "ops/attention_trace.h"

namespace loopos {

/// Rows (B, time, width) that stand outside the stack, and the gradient of them; null: it is not wanted.
template <class T>
struct Memory {
  Index time = 0, width = 0;
  const T* rows = nullptr;
  T* drows = nullptr;
  T* dkv = nullptr;  // (B, time, 2 Hkv D), in backward: the gradient of one block's keys and values

  Index of(const Pass& pass) const { return pass.first * time; }  // rows before this part
};

struct CrossAttentionConfig {
  Index width, heads, kv_heads, head_width;
  Index first;   // where this block's keys begin in a row of the memory
  double scale;  // of the scores
  bool q_bias, out_bias;
  Index dropout_site;
  double std, out_std;

  /// Keys and values of one row.
  Index memory_width() const { return 2 * kv_heads * head_width; }
};

template <class T>
class CrossAttention {
 public:
  CrossAttention(ParameterSet<T>& set, Site site, const CrossAttentionConfig& config)
      : site_(std::move(site)),
        config_(config),
        precision_(&set.precision),
        q_proj_(make_projection(set, site_ / "q_proj", {config.width, y_width(), config.q_bias, config.std})),
        o_proj_(make_projection(set, site_ / "o_proj", {y_width(), config.width, config.out_bias, config.out_std})) {}

  std::unique_ptr<Projection<T>>& input_proj() { return q_proj_; }
  std::unique_ptr<Projection<T>>& output_proj() { return o_proj_; }
  bool trains() const { return q_proj_->trains() || o_proj_->trains(); }
  static constexpr bool kOutputFirst = false;
  bool recomputes() const { return false; }
  void recompute(const Pass&, const T*) {}
  /// The memory of every pass from now on; it is filled before each.
  void look_at(const Memory<T>& memory) { memory_ = &memory; }

  void plan(Arena<T>& arena, const Pass& pass, Keep keep, Rows<T>) {
    q_proj_->plan(arena, pass, keep);
    o_proj_->plan(arena, pass, keep);
    q_ = take_rows(arena, pass, y_width());
    y_ = take_rows(arena, pass, y_width());
    lse_ = take_rows(arena, pass, config_.heads);
  }

  /// Numbers a row of `hidden` that backward needs: the gradient of y, and behind it, unless they are kept, that of q and
  /// the projections' own.
  Index hidden_width(const Pass&, Keep keep) const {
    return y_width() + (keep == Keep::all ? 0 : y_width() + q_proj_->gradient_width() + o_proj_->gradient_width());
  }
  void plan_gradients(Arena<T>& arena, const Pass& pass, Keep keep, Rows<T> hidden) {
    dy_ = hidden;
    GradientRows<T> rows(arena, pass, keep, hidden, y_width());
    dq_ = rows.take(y_width());
    q_proj_->plan_gradients(pass, rows.take(q_proj_->gradient_width()), false);
    o_proj_->plan_gradients(pass, rows.take(o_proj_->gradient_width()), false);
  }

  void forward(const Pass& pass, const T* x, const T* residual, T* out) {
    T *q = q_.at(pass), *y = y_.at(pass);
    q_proj_->forward(pass, x, nullptr, q);
    const AttentionShape shape = shape_of(pass);
    const AttentionOptions options = options_of(pass);
    const AttentionOperands<T> in = operands(pass);
    if (pass.looking())
      see_attention_scores<T>(in.q, in.k, shape, options, *pass.probe, site_.layer, site_.name + ".scores");
    attention_forward<T>(in.q, in.k, in.v, shape, options, of_queries(pass, y), lse_.at(pass));
    if (pass.flags)
      pass.flags->check("forward", site_.layer, "attention", site_.name, "y", y, pass.rows() * y_width(),
                        [&] { return attention_scores_finite<T>(in.q, in.k, shape, options); });
    site_.see(pass, "forward", "attention", "y", y, y_width(), [&](Operands& o) {
      attention_operands<T>(in, shape, options, AttentionElement::of_output(shape, o.index), o);
    });
    o_proj_->forward(pass, y, residual, out);
  }

  /// dx is overwritten.
  void backward(const Pass& pass, const T* dout, T* dx) {
    T *dy = dy_.at(pass), *dq = dq_.at(pass);
    o_proj_->backward(pass, dout, dy);
    const AttentionShape shape = shape_of(pass);
    const AttentionOptions options = options_of(pass);
    AttentionOperands<T> in = operands(pass);
    in.y = view(of_queries(pass, y_.at(pass)));
    in.dy = view(of_queries(pass, dy));
    in.lse = lse_.at(pass);
    const Index width = config_.memory_width();
    T* dkv = memory_->dkv + memory_->of(pass) * width;
    attention_backward<T>(in.dy, in.q, in.k, in.v, in.y, in.lse, shape, options, of_queries(pass, dq),
                          of_memory(dkv, width), of_memory(dkv + width / 2, width));
    site_.see(pass, "backward", "attention", "dq", dq, y_width(), [&](Operands& o) {
      attention_operands<T>(in, shape, options, AttentionElement::of_fused(shape, o.index), o);
    });
    pass.see("backward", site_.layer, "attention", site_.name, "dkv", dkv, {pass.batch, memory_->time, width},
             [&](Operands& o) { attention_operands<T>(in, shape, options, of_dkv(o.index), o); });
    if (memory_->drows) give(pass, dkv);
    q_proj_->backward(pass, dq, dx);
  }

  void output_gradients(const Pass& pass, const T* dout) { o_proj_->parameter_gradients(pass, dout, y_.at(pass)); }
  /// After backward. x as it was given to forward.
  void input_gradients(const Pass& pass, const T* x) { q_proj_->parameter_gradients(pass, dq_.at(pass), x); }

 private:
  static Heads<const T> view(Heads<T> x) { return {x.data, x.strides}; }
  Heads<T> of_queries(const Pass& pass, T* rows) const {
    return {rows, {pass.time * y_width(), config_.head_width, y_width()}};
  }
  template <class U>
  Heads<U> of_memory(U* rows, Index row_width) const {
    return {rows, {memory_->time * row_width, config_.head_width, row_width}};
  }
  AttentionOperands<T> operands(const Pass& pass) const {
    const T* keys = memory_->rows + memory_->of(pass) * memory_->width + config_.first;
    return {view(of_queries(pass, q_.at(pass))), of_memory(keys, memory_->width),
            of_memory(keys + config_.memory_width() / 2, memory_->width)};
  }
  AttentionElement of_dkv(const Extents& index) const {
    const Index values = config_.memory_width() / 2, channel = index.n[2], within = channel % values;
    return {channel < values ? AttentionElement::dk : AttentionElement::dv, index.n[0], within / config_.head_width,
            index.n[1], within % config_.head_width};
  }
  /// The gradient of this block's keys and values to its place in that of the memory.
  void give(const Pass& pass, const T* dkv) const {
    const Index width = config_.memory_width(), before = memory_->of(pass);
    for (Index r = 0; r < pass.batch * memory_->time; ++r)
      std::copy_n(dkv + r * width, width, memory_->drows + (before + r) * memory_->width + config_.first);
  }
  Index y_width() const { return config_.heads * config_.head_width; }
  AttentionShape shape_of(const Pass& pass) const {
    return {pass.batch,    config_.heads,      config_.kv_heads,  pass.time,
            memory_->time, config_.head_width, config_.head_width};
  }
  AttentionOptions options_of(const Pass& pass) const {
    AttentionOptions options;
    options.scale = config_.scale;
    options.precision = *precision_;
    options.dropout = pass.dropout;
    options.seed = pass.stream(config_.dropout_site);
    options.first_batch = pass.sequences_before();
    return options;
  }

  Site site_;
  CrossAttentionConfig config_;
  const Precision* precision_;  // the set's, which a run may change
  std::unique_ptr<Projection<T>> q_proj_, o_proj_;
  const Memory<T>* memory_ = nullptr;
  Rows<T> q_, y_, lse_, dy_, dq_;
};

}  // namespace loopos
