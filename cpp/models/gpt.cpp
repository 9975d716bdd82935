#include "models/gpt.h"

#include <algorithm>
#include <cmath>

namespace loopos {
namespace {

constexpr double kStd = 0.02;  // of initial weights
constexpr const char* kOneAdapter = "the model has an adapter already; remove it first";
constexpr Index kFirstBlockSite = 1;  // of dropout; the embedding has site 0

NormConfig norm_config(const GptConfig& c) {
  return {c.norm, c.bias, c.norm_unit_offset, c.norm_eps};
}

std::vector<BlockConfig> block_configs(const GptConfig& c) {
  const double out_std = kStd / std::sqrt(2.0 * static_cast<double>(std::max<std::size_t>(1, c.layers.size())));
  std::vector<BlockConfig> blocks;
  for (const auto& layer : c.layers) {
    BlockConfig block{};
    block.width = c.d_model;
    block.placement = c.placement;
    block.parallel = c.parallel_residual;
    block.norm = norm_config(c);
    auto& attention = block.attention;
    attention.width = c.d_model;
    attention.heads = c.n_head;
    attention.kv_heads = c.n_kv_head;
    attention.head_width = c.head_width;
    attention.visibility.causal = true;
    attention.visibility.window = layer.window;
    attention.scale = c.attention_scale > 0 ? c.attention_scale : 1 / std::sqrt(static_cast<double>(c.head_width));
    attention.qkv_bias = c.qkv_bias;
    attention.out_bias = c.out_bias;
    attention.qk_norm = {c.qk_norm, c.norm_unit_offset, c.norm_eps};
    attention.frequencies = layer.frequencies;
    attention.rope_factor = layer.rope_factor;
    attention.std = kStd;
    attention.out_std = out_std;
    block.mlp = {c.d_model, c.d_ff, c.activation, c.mlp_bias, kStd, out_std};
    blocks.push_back(std::move(block));
  }
  return blocks;
}

constexpr const char* kScore = "score.weight";  // of a classifier's head

template <class T>
Head<T> make_head(ParameterSet<T>& set, const Weight<T>& tokens, const GptConfig& c) {
  const bool classifies = c.num_labels > 0;  // such a head is new, and learns whatever the rest is stored as
  if (c.tie_embeddings && !classifies) return {tokens, c.vocab_size, c.d_model};
  return {set,  classifies ? kScore : "lm_head.weight",           c.outputs(), c.d_model,
          kStd, classifies ? WeightUse::learns : WeightUse::table};
}

}  // namespace

template <class T>
Gpt<T>::Gpt(const GptConfig& c, std::optional<std::uint64_t> seed)
    : config_(c),
      set_(c.weights),
      embedding_(set_, 0, c.vocab_size, c.d_model, c.rope ? 0 : c.context_length, c.embedding_scale, kStd),
      stack_(set_, *this, c.d_model, kFirstBlockSite, block_configs(c)),
      norm_(set_, {"final_norm", -1}, c.d_model, norm_config(c)),
      head_(make_head(set_, embedding_.tokens(), c)) {
  set_.allocate(seed);
  for (auto& weight : set_.stored()) allocate_stored(weight, seed);
  if (c.weights != Storage::plain)  // what is not stored small does not learn beside it
    for (auto& p : set_.list()) set_.set_trainable(p, c.num_labels > 0 && p.name == kScore);
}

template <class T>
void Gpt<T>::add_adapter(const std::vector<LowRankSpec>& parts) {
  require(!modulation_.present(), "add_adapter: ", kOneAdapter);
  typename Adapter<T>::Slots slots;
  stack_.visit_projections([&](auto& slot) { slots.push_back(&slot); });
  const auto layers = static_cast<Index>(config_.layers.size());
  adapter_.add(set_, slots, kFirstBlockSite + layers * BlockConfig::kDropoutSites, parts);  // behind all other sites
  end_generation();
}

template <class T>
void Gpt<T>::add_modulation(const ModulationConfig& config) {
  constexpr const char* kFunction = "add_modulation";
  require(!adapter_.present() && !modulation_.present(), kFunction, ": ", kOneAdapter);
  require(config.rank >= 1, kFunction, ": rank must be 1 at least, got ", config.rank);
  require(std::isfinite(config.additive_scale), kFunction, ": additive_scale must be finite, got ",
          config.additive_scale);
  try {
    modulation_.begin(set_, "the modulation and its gradients", [&] { stack_.modulate(set_, config); });
  } catch (...) {
    stack_.unmodulate();
    throw;
  }
  end_generation();
}

template <class T>
void Gpt<T>::remove_adapter() {
  adapter_.remove(set_);
  stack_.unmodulate();
  modulation_.end(set_);
  end_generation();
}

template <class T>
void Gpt<T>::enable_adapter(bool on) {
  adapter_.enable(on);
  stack_.enable_modulation(on);
  end_generation();
}

template <class T>
void Gpt<T>::end_generation() {
  cache_ = {};
  ++generations_;
}

template <class T>
void Gpt<T>::run_forward(const Pass& pass, const Index* ids) {
  embedding_.forward(pass, pass.at(ids, 1), stack_.input(pass));
  stack_.forward(pass);
  norm_.forward(pass, stack_.output(pass), normed_.at(pass));
}

/// From the gradient of the norm's result down to that of the embedding.
template <class T>
void Gpt<T>::run_backward(const Pass& pass) {
  stack_.due([&] { head_gradients(pass); });
  norm_.backward(pass, stack_.output(pass), dnormed_.at(pass), nullptr, stack_.doutput(pass));
  stack_.due([&] { norm_gradients(pass); });
  stack_.backward(pass);
}

template <class T>
void Gpt<T>::finish_gradients(const Pass& whole, const Index* ids) {
  stack_.finish_gradients(whole);
  embedding_.parameter_gradients(stack_.placed(whole), ids, stack_.dinput(whole));
}

template <class T>
void Gpt<T>::plan(Arena<T>& arena, const Pass& pass, Keep keep, const Workspace<T>& work) {
  norm_.plan(arena, pass);
  normed_ = keep == Keep::costly ? work.normed : take_rows(arena, pass, config_.d_model);
  head_.plan(arena, pass);
}

template <class T>
void Gpt<T>::plan_gradients(Arena<T>& arena, const Pass& pass, const Workspace<T>& work) {
  dnormed_ = work.dnormed;
  norm_.plan_gradients(arena, pass, work);
}

template <class T>
double Gpt<T>::workspace_bytes(const Pass& pass, bool training) {
  const double losses = static_cast<double>(pass.rows()) * sizeof(double);  // of the head
  Pass all = pass;
  all.scored = true;
  const Index sequences = std::min(all.batch, stack_.group_size(all, training));
  const Index numbers = stack_.measure(all.group(0, sequences), training);  // no other group has more
  return static_cast<double>(numbers) * sizeof(T) + losses;
}

template <class T>
void Gpt<T>::gradient_tasks(GradientTasks& tasks) {
  tasks.push_back({head_.size(), [this](const Pass& pass) { head_gradients(pass); }});
  tasks.push_back({norm_.size(), [this](const Pass& pass) { norm_gradients(pass); }});
}

template <class T>
void Gpt<T>::forward(const Pass& whole, const Index* ids, T* logits) {
  stack_.prepare(whole, false);
  stack_.each_part(whole, [&](const Pass& pass) {
    run_forward(pass, ids);
    head_.forward(pass, normed_.at(pass), pass.at(logits, config_.outputs()));
  });
}

template <class T>
void Gpt<T>::hidden(const Pass& whole, const Index* ids, T* result) {
  stack_.prepare(whole, false);
  stack_.each_part(whole, [&](const Pass& pass) {
    run_forward(pass, ids);
    std::copy_n(normed_.at(pass), pass.rows() * config_.d_model, pass.at(result, config_.d_model));
  });
}

template <class T>
LossSum Gpt<T>::loss(const Pass& batch, const Index* ids, const Index* targets, const CrossEntropyOptions& options) {
  Pass all = batch;
  all.scored = true;
  head_.plan_losses(all);
  stack_.each_group(all, false, [&](const Pass& whole) {
    const Index *from = ids + whole.before * all.time, *to = targets + whole.before * all.time;
    stack_.prepare(whole, false);
    stack_.each_part(whole, [&](const Pass& pass) {
      run_forward(pass, from);
      head_.loss(pass, normed_.at(pass), pass.at(to, 1), {options}, nullptr);
    });
  });
  return head_.total(all, targets, options.ignore_index);
}

/// Gradients that are there and count as zero unless `add`; a probe sees the weights.
template <class T>
void Gpt<T>::begin_gradients(const Pass& batch, bool add) {
  set_.allocate_gradients();
  head_.plan_losses(batch);
  if (!add) set_.discard_gradients();
  if (batch.probe)
    for (const auto& p : set_.list())  // a weight that is not finite is itself the birth
      batch.probe->see("forward", p.layer, "parameter", p.name, static_cast<const T*>(p.value), p.shape);
}

/// Gradients to which nothing has come are zero in the end, also when something is thrown half-way.
template <class T>
struct Settle {
  ParameterSet<T>& set;
  ~Settle() { set.zero_stale(); }
};

template <class T>
LossSum Gpt<T>::accumulate(const Pass& batch, const Index* ids, const Index* targets,
                           const CrossEntropyOptions& options, double scale, bool add, const Teaching<T>* teaching) {
  Pass all = batch;
  all.scored = !teaching || teaching->needs_logits();
  all.compared = teaching && teaching->head;
  const T one = static_cast<T>(scale);
  const Scoring<T> how{options, &one, 0, teaching};
  const Settle<T> settle{set_};
  begin_gradients(all, add);
  stack_.each_group(all, true, [&](const Pass& whole) {
    const Index *from = ids + whole.before * all.time, *to = targets + whole.before * all.time;
    stack_.prepare(whole, true);
    stack_.each_part(whole, [&](const Pass& pass) {
      run_forward(pass, from);
      head_.loss(pass, normed_.at(pass), pass.at(to, 1), how, dnormed_.at(pass));
      run_backward(pass);
    });
    finish_gradients(whole, from);
  });
  return head_.total(all, targets, options.ignore_index);
}

template <class T>
LossSum Gpt<T>::accumulate_with(const Pass& batch, const Index* ids, const Index* targets,
                                const CrossEntropyOptions& options, bool add, const Between<T>& between) {
  using Of = typename Between<T>::Of;
  const Index width = between.of == Of::logits ? config_.outputs() : config_.d_model;
  Pass all = batch;
  all.scored = between.of == Of::losses;
  const Settle<T> settle{set_};
  begin_gradients(all, add);
  const auto ahead = [&](const Pass& whole) {
    const Index *from = ids + whole.before * all.time, *to = targets + whole.before * all.time;
    stack_.prepare(whole, true);
    stack_.each_part(whole, [&](const Pass& pass) {
      run_forward(pass, from);
      T* values = pass.at(between.values, width);
      if (values) values += whole.before * all.time * width;
      if (between.of == Of::losses) head_.loss(pass, normed_.at(pass), pass.at(to, 1), {options}, nullptr);
      if (between.of == Of::logits) head_.forward(pass, normed_.at(pass), values);
      if (between.of == Of::hidden) std::copy_n(normed_.at(pass), pass.rows() * width, values);
    });
  };
  Index groups = 0;
  stack_.each_group(all, true, [&](const Pass& whole) {
    ++groups;
    ahead(whole);
  });
  const T* gradient = between.compute();
  stack_.each_group(all, true, [&](const Pass& whole) {
    if (groups > 1) ahead(whole);
    const Index *from = ids + whole.before * all.time, *to = targets + whole.before * all.time;
    const T* own = gradient + whole.before * all.time * width;
    const auto of_head = [&](const Pass& pass) {
      if (between.of == Of::logits) head_.weight_gradient(pass.at(own, width), normed_.at(pass), pass.rows());
    };
    bool taken = false;
    stack_.each_part(whole, [&](const Pass& pass) {
      T* dnormed = dnormed_.at(pass);
      if (between.of == Of::losses) head_.loss(pass, normed_.at(pass), pass.at(to, 1), {options, gradient, 1}, dnormed);
      if (between.of == Of::logits) head_.backward(pass, pass.at(own, width), dnormed);
      if (between.of == Of::hidden) {
        std::copy_n(pass.at(own, width), pass.rows() * width, dnormed);
        pass.see("backward", -1, "loss", "", "final.dx", dnormed, {pass.batch, pass.time, width});
      }
      stack_.due([&] {
        of_head(pass);
        taken = true;
      });
      run_backward(pass);
    });
    if (!taken) of_head(whole);
    finish_gradients(whole, from);
  });
  return head_.total(all, targets, options.ignore_index);
}

template <class T>
void Gpt<T>::start_generation(Index batch, Index length, const Index* padding) {
  end_generation();  // none, should its memory not be there
  stack_.plan_cache(batch, length);
  cache_.batch = batch;
  cache_.length = length;
  if (padding) cache_.padding.assign(padding, padding + batch);
}

template <class T>
void Gpt<T>::extend_generation(Index length) {
  Cache extended = cache_;
  extended.length = length;
  if (cache_.used == 0) cache_ = {};  // what holds nothing is given up before there is more
  stack_.plan_cache(extended.batch, length, extended.used, cache_.length);
  cache_ = extended;
}

template <class T>
void Gpt<T>::next_logits(Index time, const Index* ids, T* logits) {
  Pass whole = Pass::whole(cache_.batch, time);
  whole.start = cache_.used;
  whole.cached = cache_.length;
  whole.padding = cache_.padding.empty() ? nullptr : cache_.padding.data();
  stack_.prepare(whole, false);
  stack_.each_part(whole, [&](const Pass& pass) { run_forward(pass, ids); });
  cache_.used += time;
  // Only the last position of each sequence is asked for. The stack's input is free again.
  const Index width = config_.d_model;
  T* last = stack_.input(whole);
  for (Index b = 0; b < whole.batch; ++b)
    std::copy_n(normed_.data + (b * time + time - 1) * width, width, last + b * width);
  whole.time = 1;
  head_.forward(whole, last, logits);
}

template class Gpt<float>;
template class Gpt<double>;

}  // namespace loopos
