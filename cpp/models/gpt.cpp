#include "models/gpt.h"

#include <cmath>

namespace loopos {

template <class T>
Gpt<T>::Gpt(const GptConfig& c, std::uint64_t seed) : config_(c) {
  const double std = 0.02, out_std = 0.02 / std::sqrt(2.0 * static_cast<double>(std::max<Index>(1, c.n_layer)));
  Index dropout_site = 0;
  embedding_ = Embedding<T>(set_, dropout_site++, c.vocab_size, c.d_model, c.rope ? 0 : c.context_length, std);
  for (Index i = 0; i < c.n_layer; ++i) {
    const Site site{"blocks." + std::to_string(i), i};
    Block<T> b;
    b.attn_norm = Norm<T>(set_, site / "attn_norm", c.d_model, c.rms_norm, c.bias, c.norm_eps);
    b.attn = SelfAttention<T>(set_, site / "attn", dropout_site++,
                              {c.d_model, c.n_head, c.n_kv_head, c.bias, c.rope, c.rope_theta, std, out_std});
    b.attn_residual = Residual<T>(site / "attn_residual", dropout_site++, c.d_model);
    b.mlp_norm = Norm<T>(set_, site / "mlp_norm", c.d_model, c.rms_norm, c.bias, c.norm_eps);
    b.mlp = Mlp<T>(set_, site / "mlp", {c.d_model, c.d_ff, c.activation, c.bias, std, out_std});
    b.mlp_residual = Residual<T>(site / "mlp_residual", dropout_site++, c.d_model);
    blocks_.push_back(std::move(b));
  }
  final_norm_ = Norm<T>(set_, {"final_norm", -1}, c.d_model, c.rms_norm, c.bias, c.norm_eps);
  head_ = Head<T>(set_, c.tie_embeddings ? embedding_.tokens() : nullptr, c.vocab_size, c.d_model, std);
  set_.allocate(seed);
}

/// Deals out the workspace of one (B, T). Without training the blocks share one set of activations.
template <class T>
void Gpt<T>::prepare(const Pass& pass, bool training) {
  positions_.resize(static_cast<std::size_t>(pass.time));
  for (Index t = 0; t < pass.time; ++t) positions_[static_cast<std::size_t>(t)] = pass.start + t;
  if (planned_batch_ == pass.batch && planned_time_ == pass.time && planned_training_ == training) return;
  planned_batch_ = -1;  // a plan that fails half-way leaves none
  const Index stream = pass.rows() * config_.d_model;
  arena_.arrange([&](Arena<T>& arena) {
    embedded_ = arena.take(stream);
    T* shared_stream = training ? nullptr : arena.take(stream);
    const Index mark = arena.mark();
    for (auto& b : blocks_) {
      if (!training) arena.release(mark);
      b.attn_norm.plan(arena, pass);
      b.normed = arena.take(stream);
      b.attn.plan(arena, pass);
      b.middle = arena.take(stream);
      b.mlp_norm.plan(arena, pass);
      b.normed_middle = arena.take(stream);
      b.mlp.plan(arena, pass);
      b.out = training ? arena.take(stream) : shared_stream;
    }
    if (!training) arena.release(mark);
    final_norm_.plan(arena, pass);
    normed_ = arena.take(stream);
    head_.plan(arena, pass);
    if (!training) return;
    Index wide = 0, hidden = config_.d_ff;
    for (auto& b : blocks_) wide = std::max({wide, b.attn.fused(), b.mlp.up()});
    dstream_ = arena.take(stream);
    dbranch_ = arena.take(stream);
    dnormed_ = arena.take(stream);
    dwide_ = arena.take(pass.rows() * wide);
    dhidden_ = arena.take(pass.rows() * std::max(hidden, config_.d_model));
  });
  planned_batch_ = pass.batch;
  planned_time_ = pass.time;
  planned_training_ = training;
}

template <class T>
void Gpt<T>::run_forward(const Pass& pass, const Index* ids) {
  embedding_.forward(pass, ids, embedded_);
  const T* x = embedded_;
  for (auto& b : blocks_) {
    b.attn_norm.forward(pass, x, b.normed);
    b.attn.forward(pass, b.normed, positions_.data(), pass.cached ? &b.cache : nullptr, b.middle);
    b.attn_residual.forward(pass, x, b.middle, b.middle);
    b.mlp_norm.forward(pass, b.middle, b.normed_middle);
    b.mlp.forward(pass, b.normed_middle, b.out);
    b.mlp_residual.forward(pass, b.middle, b.out, b.out);
    x = b.out;
  }
  final_norm_.forward(pass, x, normed_);
}

/// From dnormed_, the gradient of the head's input, down to the embeddings. dstream_ runs along the residual stream.
template <class T>
void Gpt<T>::run_backward(const Pass& pass) {
  final_norm_.backward(pass, dnormed_, nullptr, dstream_);
  for (auto block = blocks_.rbegin(); block != blocks_.rend(); ++block) {
    auto& b = *block;
    const T* dbranch = b.mlp_residual.backward(pass, dstream_, dbranch_);
    b.mlp.backward(pass, dbranch, dhidden_, dwide_, dnormed_);
    b.mlp_norm.backward(pass, dnormed_, dstream_, dstream_);
    dbranch = b.attn_residual.backward(pass, dstream_, dbranch_);
    b.attn.backward(pass, dbranch, positions_.data(), dhidden_, dwide_, dnormed_);
    b.attn_norm.backward(pass, dnormed_, dstream_, dstream_);
  }
  embedding_.backward(pass, dstream_);
}

template <class T>
void Gpt<T>::forward(Index batch, Index time, const Index* ids, T* logits) {
  Pass pass;
  pass.batch = batch;
  pass.time = time;
  prepare(pass, false);
  run_forward(pass, ids);
  head_.forward(pass, normed_, logits);
}

template <class T>
LossSum Gpt<T>::loss(Index batch, Index time, const Index* ids, const Index* targets, Index ignore_index) {
  Pass pass;
  pass.batch = batch;
  pass.time = time;
  prepare(pass, false);
  run_forward(pass, ids);
  return head_.loss(pass, normed_, targets, ignore_index, T(0), nullptr);
}

template <class T>
LossSum Gpt<T>::accumulate(Pass pass, const Index* ids, const Index* targets, Index ignore_index, double scale) {
  set_.allocate_gradients();
  prepare(pass, true);
  if (pass.probe)
    for (const auto& p : set_.list()) {  // a weight that is not finite is itself the birth
      const std::size_t digits = p.name.rfind("blocks.", 0) == 0 ? 7 : std::string::npos;
      const Index layer = digits == std::string::npos ? -1 : std::stoll(p.name.substr(digits));
      pass.probe->see("forward", layer, "parameter", p.name, p.value, p.shape);
    }
  run_forward(pass, ids);
  const LossSum result = head_.loss(pass, normed_, targets, ignore_index, static_cast<T>(scale), dnormed_);
  run_backward(pass);
  return result;
}

template <class T>
void Gpt<T>::start_generation(Index batch, Index length) {
  Index kv = 0;
  for (const auto& b : blocks_) kv = b.attn.kv_width();
  const Index size = batch * length * kv;
  const Index blocks = static_cast<Index>(blocks_.size());
  require_memory("the key/value cache of generation",
                 2.0 * static_cast<double>(blocks) * static_cast<double>(size) * sizeof(T));
  cache_memory_.reserve(2 * blocks * size);
  for (Index i = 0; i < blocks; ++i) {
    T* base = cache_memory_.data() + 2 * i * size;
    blocks_[static_cast<std::size_t>(i)].cache = {base, base + size};
  }
  cache_batch_ = batch;
  cache_length_ = length;
  cache_used_ = 0;
}

template <class T>
void Gpt<T>::next_logits(Index time, const Index* ids, T* logits) {
  Pass pass;
  pass.batch = cache_batch_;
  pass.time = time;
  pass.start = cache_used_;
  pass.cached = cache_length_;
  prepare(pass, false);
  run_forward(pass, ids);
  cache_used_ += time;
  // Only the last position of each sequence is asked for.
  for (Index b = 0; b < pass.batch; ++b)
    std::copy_n(normed_ + (b * time + time - 1) * config_.d_model, config_.d_model, embedded_ + b * config_.d_model);
  Pass last = pass;
  last.time = 1;
  head_.forward(last, embedded_, logits);
}

template class Gpt<float>;
template class Gpt<double>;

}  // namespace loopos
