#include "models/gpt.h"

#include <algorithm>
#include <cmath>

namespace loopos {
namespace {

constexpr Index kFirstBlockSite = 1;            // of dropout; the embedding has site 0
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
      head_(make_head(set_, embedding_.tokens(), c)),
      adapter_(set_, stack_, kFirstBlockSite + static_cast<Index>(c.layers.size()) * BlockConfig::kDropoutSites),
      streams_(c.d_model) {
  set_.allocate(seed);
  for (auto& weight : set_.stored()) allocate_stored(weight, seed);
  if (c.weights != Storage::plain)  // what is not stored small does not learn beside it
    for (auto& p : set_.list()) set_.set_trainable(p, p.learns);
}

/// Up to the result of the final norm, in parts or at once; then(part) follows. seen(part, block, x): what flows out of
/// a block.
template <class T>
template <class Then, class Seen>
void Gpt<T>::run_forward(const Pass& whole, bool training, const Index* ids, Then&& then, const Seen& seen) {
  stack_.prepare(whole, training);
  stack_.each_part(whole, [&](const Pass& pass) {
    embedding_.forward(pass, pass.of_batch(ids, 1), stack_.input(pass));
    stack_.forward(pass, [&](Index block, const T* x) { seen(pass, block, x); });
    norm_.forward(pass, stack_.output(pass), normed_.at(pass));
    then(pass);
  });
}

/// From the gradient of the norm's result down to that of the embedding. join: as in Stack::backward.
template <class T>
template <class Join>
void Gpt<T>::run_backward(const Pass& pass, const Join& join) {
  stack_.due([&] { head_gradients(pass); });
  norm_.backward(pass, stack_.output(pass), dnormed_.at(pass), nullptr, stack_.doutput(pass));
  stack_.due([&] { norm_gradients(pass); });
  stack_.backward(pass, join);
}

template <class T>
void Gpt<T>::finish_gradients(const Pass& whole, const Index* ids) {
  stack_.finish_gradients(whole);
  embedding_.parameter_gradients(stack_.placed(whole), whole.of_batch(ids, 1), stack_.dinput(whole));
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
  run_forward(whole, false, ids,
              [&](const Pass& pass) { head_.forward(pass, normed_.at(pass), pass.at(logits, config_.outputs())); });
}

template <class T>
void Gpt<T>::hidden(const Pass& whole, const Index* ids, T* result) {
  run_forward(whole, false, ids, [&](const Pass& pass) {
    std::copy_n(normed_.at(pass), pass.rows() * config_.d_model, pass.at(result, config_.d_model));
  });
}

template <class T>
void Gpt<T>::hidden_states(const Pass& whole, const Index* ids, T* result) {
  const Index size = whole.rows() * config_.d_model, last = static_cast<Index>(config_.layers.size()) - 1;
  const auto keep = [&](const Pass& pass, Index block, const T* x) {
    std::copy_n(x, pass.rows() * config_.d_model, pass.at(result + block * size, config_.d_model));
  };
  run_forward(
      whole, false, ids, [&](const Pass& pass) { keep(pass, last, normed_.at(pass)); },
      [&](const Pass& pass, Index block, const T* x) {
        if (block < last) keep(pass, block, x);
      });
}

template <class T>
LossSum Gpt<T>::loss(const Pass& batch, const Index* ids, const Index* targets, const CrossEntropyOptions& options) {
  Pass all = batch;
  all.scored = true;
  head_.plan_losses(all);
  stack_.each_group(all, false, [&](const Pass& whole) {
    run_forward(whole, false, ids, [&](const Pass& pass) {
      head_.loss(pass, normed_.at(pass), pass.of_batch(targets, 1), {options}, nullptr);
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
  streams_.plan_losses(all);
  stack_.each_group(all, true, [&](const Pass& whole) {
    const auto learn = [&](const Pass& pass) {
      const Index* of_pass = pass.of_batch(targets, 1);
      head_.loss(pass, normed_.at(pass), of_pass, how, dnormed_.at(pass));
      run_backward(pass, [&](Index block, const T* x, T* dx) { streams_.pull(pass, block, x, of_pass, how, dx); });
    };
    run_forward(whole, true, ids, learn, [&](const Pass& pass, Index block, const T* x) {
      streams_.score(pass, block, x, pass.of_batch(targets, 1), how);
    });
    finish_gradients(whole, ids);
  });
  LossSum result = head_.total(all, targets, options.ignore_index);
  result.sum += streams_.total();
  return result;
}

template <class T>
LossSum Gpt<T>::accumulate_with(const Pass& batch, const Index* ids, const Index* targets,
                                const CrossEntropyOptions& options, bool add, const Between<T>& between) {
  Pass all = batch;
  all.scored = between.of == Between<T>::Of::losses;
  const Settle<T> settle{set_};
  begin_gradients(all, add);
  const bool several = stack_.group_size(all, true) < all.batch;
  const auto ahead = [&](const Pass& whole) {
    run_forward(whole, true, ids, [&](const Pass& pass) {
      head_.give(pass, normed_.at(pass), pass.of_batch(targets, 1), options, between);
    });
  };
  stack_.each_group(all, true, ahead);
  head_.take(between.of, between.compute());
  stack_.each_group(all, true, [&](const Pass& whole) {
    if (several) ahead(whole);  // what it keeps, another group has overwritten
    stack_.each_part(whole, [&](const Pass& pass) {
      head_.backward(pass, normed_.at(pass), pass.of_batch(targets, 1), options, dnormed_.at(pass));
      run_backward(pass);
    });
    finish_gradients(whole, ids);
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
  run_forward(whole, false, ids, [](const Pass&) {});
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
