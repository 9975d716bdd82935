#include "models/gpt.h"

#include <cmath>
#include <type_traits>

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
  each_weight([&](Parameter<T>*, Index in, Index out, PackedWeight<T>*) { panels_size_ += 2 * in * out; });
}

template <class T>
void Gpt<T>::each_weight(WeightVisitor<T> visitor) {
  for (auto& b : blocks_) {
    b.attn.visit_weights(visitor);
    b.mlp.visit_weights(visitor);
  }
  head_.visit_weights(visitor);
}

/// Sequences per part, or 0 where the operations are to be cut: a pure function of the sizes, but for the number of
/// threads, on which no bit depends: a row of a float product does not know its neighbours. One of a double product
/// does (Eigen), so double is never in parts.
template <class T>
Index Gpt<T>::sequences_per_part(const Pass& pass) const {
  constexpr Index kRows = 64;                // of a part, about: its activations stay in the second-level cache
  constexpr Index kPanels = Index{2} << 20;  // twice the numbers in all weights: more and packing costs too much
  const Index sequences = std::max<Index>(1, kRows / std::max<Index>(1, pass.time)),
              parts = (pass.batch + sequences - 1) / sequences;
  const bool small = std::is_same_v<T, float> && panels_size_ <= kPanels && head_.tile(pass.rows()) == pass.rows();
  return small && !pass.probe && pass.cached == 0 && parts >= 2 && parts >= num_threads() ? sequences : 0;
}

template <class T>
void Gpt<T>::plan_panels(Arena<T>& arena, bool training) {
  packing_.clear();
  if (!in_parts()) return;
  each_weight([&](Parameter<T>* weight, Index in, Index out, PackedWeight<T>* panels) {
    *panels = {weight->value, in, out};
    const auto plan = [&](kernels::PackedMatrix<T>& side) {
      constexpr Index kColumns = 128;  // of one task
      side.memory = arena.take(side.size());
      if (side.size() > 0)
        for (Index begin = 0; begin < side.source.columns; begin += kColumns)
          packing_.push_back({&side, begin, std::min(side.source.columns, begin + kColumns)});
    };
    plan(panels->forward);
    if (training) plan(panels->backward);
  });
}

/// Width of dhidden_: what a branch needs at one time. A whole pass keeps the gradients of one branch in it at most:
/// that of an ungated activation in place (a probe wants to see what it was made of), those of attention's qkv behind
/// that of its y.
template <class T>
Index Gpt<T>::wide(const Pass& pass) const {
  const Index passing = std::max(config_.d_ff, config_.d_model);
  if (in_parts()) return passing;
  Index all = passing;
  for (const auto& b : blocks_)
    all = std::max({all, in_place(pass) ? b.mlp.up() : config_.d_ff + b.mlp.up(), config_.d_model + b.attn.fused()});
  return all;
}

/// Without training the blocks share one set of activations. In training they share those that are cheap to compute
/// again: what the norms and the activation give. Parts keep them all: such models are small.
template <class T>
void Gpt<T>::plan_activations(Arena<T>& arena, const Pass& pass, bool training) {
  const Index stream = pass.rows() * config_.d_model;
  const bool again = training && !in_parts();
  embedded_ = arena.take(stream);
  T* shared_stream = training ? nullptr : arena.take(stream);
  T* shared_normed = again ? arena.take(stream) : nullptr;
  dhidden_ = training ? arena.take(pass.rows() * wide(pass)) : nullptr;
  const Index mark = arena.mark();
  for (auto& b : blocks_) {
    if (!training) arena.release(mark);
    b.attn_norm.plan(arena, pass);
    b.normed = again ? shared_normed : arena.take(stream);
    b.attn.plan(arena, pass);
    b.middle = arena.take(stream);
    b.mlp_norm.plan(arena, pass);
    b.normed_middle = again ? shared_normed : arena.take(stream);
    b.mlp.plan(arena, pass, training, again ? dhidden_ : nullptr);  // free whenever the activation's result is wanted
    b.out = training ? arena.take(stream) : shared_stream;
  }
  if (!training && !in_parts()) arena.release(mark);  // one part may be here while another is among the blocks
  final_norm_.plan(arena, pass);
  normed_ = again ? shared_normed : arena.take(stream);
  head_.plan(arena, pass);
}

/// Parts keep what the parameters' gradients need until all are through; else one block's is enough.
template <class T>
void Gpt<T>::plan_gradients(Arena<T>& arena, const Pass& pass) {
  const Index stream = pass.rows() * config_.d_model, dropped = pass.dropout > 0 ? stream : 0;
  const Index slots = final_norm_.slots(pass), rows = pass.rows();
  dnormed_ = arena.take(stream);
  T *dstream = arena.take(stream), *dbranch = arena.take(in_parts() ? 0 : dropped);
  final_slots_ = arena.take(slots);
  dlast_ = dstream;
  const auto behind = [&](Index width) { return dhidden_ ? dhidden_ + rows * width : nullptr; };  // null: measuring
  for (auto block = blocks_.rbegin(); block != blocks_.rend(); ++block) {
    auto& b = *block;
    b.dout = dstream;
    b.dmiddle = in_parts() ? arena.take(stream) : dstream;
    b.dinput = in_parts() ? arena.take(stream) : dstream;
    b.mlp_branch = in_parts() ? arena.take(dropped) : dbranch;
    b.attn_branch = in_parts() ? arena.take(dropped) : dbranch;
    b.dup = in_parts() ? arena.take(rows * b.mlp.up()) : behind(in_place(pass) ? 0 : config_.d_ff);
    b.dqkv = in_parts() ? arena.take(rows * b.attn.fused()) : behind(config_.d_model);
    b.mlp_slots = in_parts() ? arena.take(slots) : final_slots_;
    b.attn_slots = in_parts() ? arena.take(slots) : final_slots_;
    dstream = b.dinput;
  }
  dembedded_ = dstream;
}

/// Deals out the workspace of one (B, T).
template <class T>
void Gpt<T>::prepare(const Pass& pass, bool training) {
  positions_.resize(static_cast<std::size_t>(pass.time));
  for (Index t = 0; t < pass.time; ++t) positions_[static_cast<std::size_t>(t)] = pass.start + t;
  const Index part = sequences_per_part(pass);
  const bool dropout = pass.dropout > 0, probed = pass.probe != nullptr;
  if (planned_batch_ == pass.batch && planned_time_ == pass.time && planned_training_ == training && part_ == part &&
      planned_dropout_ == dropout && planned_probe_ == probed)
    return;
  planned_batch_ = -1;  // a plan that fails half-way leaves none
  part_ = part;
  arena_.arrange([&](Arena<T>& arena) {
    plan_panels(arena, training);
    plan_activations(arena, pass, training);
    if (training) plan_gradients(arena, pass);
  });
  planned_batch_ = pass.batch;
  planned_time_ = pass.time;
  planned_training_ = training;
  planned_dropout_ = dropout;
  planned_probe_ = probed;
}

/// body(part) for every part of the batch, on several threads; or body(pass), whose operations use several.
template <class T>
template <class Body>
void Gpt<T>::each_part(const Pass& pass, Body&& body) {
  if (!in_parts()) return body(pass);
  parallel_for(static_cast<Index>(packing_.size()), [&](Index i) {
    const Packing& p = packing_[static_cast<std::size_t>(i)];
    p.panels->pack(p.begin, p.end);
  });
  parallel_blocks(pass.batch, part_, [&](Index begin, Index end) {
    Pass part = pass.part(begin, end - begin);
    part.packed = true;
    body(part);
  });
}

template <class T>
void Gpt<T>::run_forward(const Pass& pass, const Index* ids) {
  const Index width = config_.d_model;
  const T* x = pass.at(embedded_, width);
  embedding_.forward(pass, pass.at(ids, 1), pass.at(embedded_, width));
  for (auto& b : blocks_) {
    T *normed = pass.at(b.normed, width), *middle = pass.at(b.middle, width),
      *normed_middle = pass.at(b.normed_middle, width), *out = pass.at(b.out, width);
    b.attn_norm.forward(pass, x, normed);
    b.attn.forward(pass, normed, positions_.data(), pass.cached ? &b.cache : nullptr,
                   b.attn_residual.fused(pass) ? x : nullptr, middle);
    b.attn_residual.forward(pass, x, middle, middle);
    b.mlp_norm.forward(pass, middle, normed_middle);
    b.mlp.forward(pass, normed_middle, b.mlp_residual.fused(pass) ? middle : nullptr, out);
    b.mlp_residual.forward(pass, middle, out, out);
    x = out;
  }
  final_norm_.forward(pass, x, pass.at(normed_, width));
}

/// From dnormed_, the gradient of the head's input, down to the embeddings.
template <class T>
void Gpt<T>::run_backward(const Pass& pass) {
  const Index width = config_.d_model;
  T* dnormed = pass.at(dnormed_, width);
  final_norm_.backward(pass, pass.at(input(blocks_.size()), width), dnormed, nullptr, pass.at(dlast_, width),
                       final_slots_);
  if (!in_parts()) final_norm_.parameter_gradients(pass, final_slots_);
  for (std::size_t i = blocks_.size(); i-- > 0;) block_backward(blocks_[i], pass.at(input(i), width), pass);
}

/// The mirror of one block. A pass over the whole batch takes the parameters' gradients on the way, and the buffers are
/// free again for the next block; what forward did not keep for them is computed once more.
template <class T>
void Gpt<T>::block_backward(Block<T>& b, const T* x, const Pass& pass) {
  const bool whole = !in_parts();
  const Index width = config_.d_model;
  T *dout = pass.at(b.dout, width), *dmiddle = pass.at(b.dmiddle, width), *dinput = pass.at(b.dinput, width),
    *dnormed = pass.at(dnormed_, width), *dhidden = pass.at(dhidden_, wide(pass));
  const T* dbranch = b.mlp_residual.backward(pass, dout, pass.at(b.mlp_branch, width));
  if (whole) b.mlp.down_gradients(pass, dbranch, true);
  b.mlp.backward(pass, dbranch, dhidden, pass.at(b.dup, b.mlp.up()), dnormed);
  if (whole) {
    b.mlp_norm.forward(pass, b.middle, b.normed_middle, true);
    b.mlp.up_gradients(pass, b.normed_middle, b.dup);
  }
  b.mlp_norm.backward(pass, pass.at(b.middle, width), dnormed, dout, dmiddle, b.mlp_slots);
  if (whole) b.mlp_norm.parameter_gradients(pass, b.mlp_slots);
  dbranch = b.attn_residual.backward(pass, dmiddle, pass.at(b.attn_branch, width));
  b.attn.backward(pass, dbranch, positions_.data(), dhidden, pass.at(b.dqkv, b.attn.fused()), dnormed);
  if (whole) {
    b.attn.output_gradients(pass, dbranch);
    b.attn_norm.forward(pass, x, b.normed, true);
    b.attn.qkv_gradients(pass, b.normed, b.dqkv);
  }
  b.attn_norm.backward(pass, x, dnormed, dmiddle, dinput, b.attn_slots);
  if (whole) b.attn_norm.parameter_gradients(pass, b.attn_slots);
}

/// What the parts have left for the parameters: each tensor's gradient is the work of one thread.
template <class T>
void Gpt<T>::kept_gradients(const Pass& pass) {
  constexpr Index kTasks = 5;  // of a block
  const Index count = static_cast<Index>(blocks_.size());
  parallel_for(kTasks * count + 2, [&](Index task) {
    if (task == kTasks * count) return head_.parameter_gradients(pass, normed_);
    if (task > kTasks * count) return final_norm_.parameter_gradients(pass, final_slots_);
    auto& b = blocks_[static_cast<std::size_t>(count - 1 - task % count)];
    const bool dropped = pass.dropout > 0;
    switch (task / count) {  // the largest first
      case 0:
        return b.mlp.up_gradients(pass, b.normed_middle, b.dup);
      case 1:
        return b.mlp.down_gradients(pass, dropped ? b.mlp_branch : b.dout, false);
      case 2:
        return b.attn.qkv_gradients(pass, b.normed, b.dqkv);
      case 3:
        return b.attn.output_gradients(pass, dropped ? b.attn_branch : b.dmiddle);
      default:
        b.mlp_norm.parameter_gradients(pass, b.mlp_slots);
        b.attn_norm.parameter_gradients(pass, b.attn_slots);
    }
  });
}

template <class T>
void Gpt<T>::forward(Index batch, Index time, const Index* ids, T* logits) {
  const Pass whole = Pass::whole(batch, time);
  prepare(whole, false);
  each_part(whole, [&](const Pass& pass) {
    run_forward(pass, ids);
    head_.forward(pass, pass.at(normed_, config_.d_model), pass.at(logits, config_.vocab_size));
  });
}

template <class T>
LossSum Gpt<T>::loss(Index batch, Index time, const Index* ids, const Index* targets, Index ignore_index) {
  const Pass whole = Pass::whole(batch, time);
  prepare(whole, false);
  each_part(whole, [&](const Pass& pass) {
    run_forward(pass, ids);
    head_.loss(pass, pass.at(normed_, config_.d_model), pass.at(targets, 1), ignore_index, T(0), nullptr);
  });
  return head_.total(whole, targets, ignore_index);
}

template <class T>
LossSum Gpt<T>::accumulate(const Pass& whole, const Index* ids, const Index* targets, Index ignore_index, double scale,
                           bool add) {
  set_.allocate_gradients();
  prepare(whole, true);
  struct Settle {  // also when something is thrown half-way
    ParameterSet<T>& set;
    ~Settle() { set.zero_stale(); }
  } settle{set_};
  if (!add) set_.discard_gradients();
  if (whole.probe)
    for (const auto& p : set_.list()) {  // a weight that is not finite is itself the birth
      const std::size_t digits = p.name.rfind("blocks.", 0) == 0 ? 7 : std::string::npos;
      const Index layer = digits == std::string::npos ? -1 : std::stoll(p.name.substr(digits));
      whole.probe->see("forward", layer, "parameter", p.name, static_cast<const T*>(p.value), p.shape);
    }
  each_part(whole, [&](const Pass& pass) {
    const Index width = config_.d_model;
    run_forward(pass, ids);
    head_.loss(pass, pass.at(normed_, width), pass.at(targets, 1), ignore_index, static_cast<T>(scale),
               pass.at(dnormed_, width));
    if (!in_parts()) head_.parameter_gradients(pass, normed_);
    run_backward(pass);
  });
  if (in_parts()) kept_gradients(whole);
  embedding_.parameter_gradients(whole, ids, dembedded_);
  return head_.total(whole, targets, ignore_index);
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
  Pass pass = Pass::whole(cache_batch_, time);
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
