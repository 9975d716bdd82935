#include "models/gpt.h"

#include "models/gradients.h"

namespace loopos {
namespace {

constexpr Index kFirstBlockSite = 1;      // of dropout; the embedding has site 0
constexpr Index kCrossSite = 1 << 19;     // behind those of all blocks
constexpr Index kPicturesSite = 1 << 20;  // behind these
constexpr const char* kScore = "score";   // of a classifier's head

template <class T>
Head<T> make_head(ParameterSet<T>& set, const std::string& prefix, const Weight<T>& tokens, const GptConfig& c) {
  const bool classifies = c.num_labels > 0;  // such a head is new, and learns whatever the rest is stored as
  if (c.tie_embeddings && !classifies) return {tokens, c.vocab_size, c.d_model};
  return {set,  prefix + (classifies ? kScore : "lm_head"),       c.outputs(), c.d_model,
          kStd, classifies ? WeightUse::learns : WeightUse::table};
}

std::string prefix_of(const GptConfig& c) {
  return c.pictures ? "decoder." : "";
}

Visibility visibility_of(const GptConfig& c) {
  Visibility visibility;
  visibility.causal = true;
  visibility.prefix = c.prefix();
  return visibility;
}

std::vector<BlockConfig> blocks_of(const GptConfig& c) {
  std::vector<BlockConfig> blocks = block_configs(c, visibility_of(c));
  if (c.attends()) add_cross_attention(blocks, kCrossSite);
  if (c.prefix() > 0 && !blocks.empty()) blocks.back().tokens_alone = !blocks.back().parallel;
  return blocks;
}

}  // namespace

template <class T>
Gpt<T>::Gpt(const GptConfig& c, std::optional<std::uint64_t> seed)
    : config_(c),
      set_(c.weights),
      pictures_(c.pictures ? std::make_unique<ImageEncoder<T>>(set_, "encoder.", kPicturesSite, *c.pictures) : nullptr),
      embedding_(set_, prefix_of(c), 0, c.vocab_size, c.d_model, c.rope ? 0 : c.context_length, c.embedding_scale,
                 kStd),
      stack_(set_, prefix_of(c), *this, c.d_model, kFirstBlockSite, blocks_of(c)),
      norm_(set_, {prefix_of(c) + "final_norm", -1}, c.d_model, norm_config(c)),
      head_(make_head(set_, prefix_of(c), embedding_.tokens(), c)),
      adapter_(set_, stack_, kFirstBlockSite + static_cast<Index>(c.layers.size()) * BlockConfig::kDropoutSites),
      streams_(c.d_model) {
  set_.allocate(seed);
  for (auto& weight : set_.stored()) allocate_stored(weight, seed);
  if (c.weights != Storage::plain)  // what is not stored small does not learn beside it
    for (auto& p : set_.list()) set_.set_trainable(p, p.learns);
  if (c.attends()) {
    memory_.time = c.pictures->grid.rows();
    memory_.width = c.pictures->outputs();
    stack_.look_at(memory_);
  }
}

/// The rows of the batch's pictures, where there are some; in generation they have been seen before.
template <class T>
void Gpt<T>::look(const Pass& whole, bool training, const T* images) {
  if (!images) return;
  const bool learns = training && pictures_train();
  pictures_->encode(whole, learns, images);
  if (!config_.attends()) return;
  memory_.rows = pictures_->output(whole);
  memory_.drows = learns ? pictures_->doutput(whole) : nullptr;
}

/// Up to the result of the final norm, in parts or at once; then(part) follows. seen(part, block, x): what flows out of
/// a block.
template <class T>
template <class Then, class Seen>
void Gpt<T>::run_forward(const Pass& whole, bool training, const Inputs<T>& in, Then&& then, const Seen& seen) {
  look(whole, training, in.images);
  stack_.prepare(whole, training);
  stack_.each_part(whole, [&](const Pass& pass) {
    const Pass tokens = tokens_of(pass);
    T* text = prefixes() ? text_.at(tokens) : stack_.input(pass);
    embedding_.forward(tokens, tokens.of_batch(in.ids, 1), text);
    if (prefixes()) prepend_forward<T>(pictures_->output(pass), text, prepended(pass), stack_.input(pass));
    stack_.forward(pass, [&](Index block, const T* x) { seen(pass, block, x); });
    if (prefixes() && !stack_.narrows()) prepend_backward<T>(stack_.output(pass), prepended(pass), nullptr, text);
    norm_.forward(tokens, last(pass), normed_.at(tokens));
    then(pass);
  });
}

/// From the gradient of the norm's result down to that of the embedding. join: as in Stack::backward.
template <class T>
template <class Join>
void Gpt<T>::run_backward(const Pass& pass, const Join& join) {
  stack_.due([&] { head_gradients(pass); });
  const Pass tokens = tokens_of(pass);
  const bool widens = prefixes() && !stack_.narrows();
  T* dlast = stack_.narrows() ? stack_.dnarrow(tokens) : widens ? dtext_.at(tokens) : stack_.doutput(pass);
  norm_.backward(tokens, last(pass), dnormed_.at(pass), nullptr, dlast);
  stack_.due([&] { norm_gradients(pass); });
  if (widens) prepend_forward<T>(nullptr, dlast, prepended(pass), stack_.doutput(pass));
  stack_.backward(pass, join);
}

template <class T>
void Gpt<T>::finish_gradients(const Pass& whole, const Inputs<T>& in) {
  stack_.finish_gradients(whole);
  const Pass tokens = tokens_of(stack_.placed(whole));
  T* dtext = prefixes() ? dtext_.at(tokens) : stack_.dinput(whole);
  T* drows = pictures_train() ? pictures_->doutput(whole) : nullptr;
  if (prefixes()) prepend_backward(stack_.dinput(whole), prepended(whole), drows, dtext);
  embedding_.parameter_gradients(tokens, tokens.of_batch(in.ids, 1), dtext);
  if (drows) pictures_->backward(whole);
}

template <class T>
void Gpt<T>::plan(Arena<T>& arena, const Pass& pass, Keep keep, const Workspace<T>& work) {
  const Pass tokens = tokens_of(pass);
  if (prefixes()) text_ = take_rows(arena, tokens, config_.d_model);
  norm_.plan(arena, tokens);
  normed_ = keep == Keep::costly ? work.normed : take_rows(arena, tokens, config_.d_model);
  head_.plan(arena, tokens);
}

template <class T>
void Gpt<T>::plan_gradients(Arena<T>& arena, const Pass& pass, const Workspace<T>& work) {
  dnormed_ = work.dnormed;
  if (prefixes()) dtext_ = take_rows(arena, tokens_of(pass), config_.d_model);
  if (config_.attends()) memory_.dkv = arena.take(pass.batch * memory_.time * block_memory());
  norm_.plan_gradients(arena, tokens_of(pass), work);
}

template <class T>
double Gpt<T>::workspace_bytes(const Pass& tokens, bool training) {
  const auto row = sizeof(double) + (tokens.compared ? sizeof(KlRow<T>) : 0);  // what the head keeps of one
  const double kept = static_cast<double>(tokens.rows()) * static_cast<double>(row);
  const Pass all = with_prefix(tokens);
  const Pass group = all.group(0, std::min(all.batch, group_size(all, training)));  // no other group has more
  const double pictures = pictures_ ? pictures_->workspace_bytes(group, training && pictures_train()) : 0;
  return static_cast<double>(stack_.measure(group, training)) * sizeof(T) + kept + pictures;
}

template <class T>
void Gpt<T>::gradient_tasks(GradientTasks& tasks) {
  tasks.push_back({head_.size(), [this](const Pass& pass) { head_gradients(pass); }});
  tasks.push_back({norm_.size(), [this](const Pass& pass) { norm_gradients(pass); }});
}

template <class T>
void Gpt<T>::forward(const Pass& batch, const Inputs<T>& in, T* logits) {
  run_forward(with_prefix(batch), false, in, [&](const Pass& pass) {
    const Pass tokens = tokens_of(pass);
    head_.forward(tokens, normed_.at(tokens), tokens.at(logits, config_.outputs()));
  });
}

template <class T>
void Gpt<T>::hidden(const Pass& batch, const Inputs<T>& in, T* result) {
  run_forward(with_prefix(batch), false, in, [&](const Pass& pass) {
    const Pass tokens = tokens_of(pass);
    std::copy_n(normed_.at(tokens), tokens.rows() * config_.d_model, tokens.at(result, config_.d_model));
  });
}

template <class T>
void Gpt<T>::hidden_states(const Pass& whole, const Inputs<T>& in, T* result) {
  const Index size = whole.rows() * config_.d_model, last = static_cast<Index>(config_.layers.size()) - 1;
  const auto keep = [&](const Pass& pass, Index block, const T* x) {
    std::copy_n(x, pass.rows() * config_.d_model, pass.at(result + block * size, config_.d_model));
  };
  run_forward(
      whole, false, in, [&](const Pass& pass) { keep(pass, last, normed_.at(pass)); },
      [&](const Pass& pass, Index block, const T* x) {
        if (block < last) keep(pass, block, x);
      });
}

template <class T>
LossSum Gpt<T>::loss(const Pass& batch, const Inputs<T>& in, const Index* targets, const CrossEntropyOptions& options) {
  Pass all = with_prefix(batch);
  all.scored = true;
  head_.plan_losses(tokens_of(all));
  each_group(all, group_size(all, false), [&](const Pass& whole) {
    run_forward(whole, false, in, [&](const Pass& pass) {
      const Pass tokens = tokens_of(pass);
      head_.loss(tokens, normed_.at(tokens), tokens.of_batch(targets, 1), {options}, nullptr);
    });
  });
  return head_.total(tokens_of(all), targets, options.ignore_index);
}

template <class T>
LossSum Gpt<T>::accumulate(const Pass& batch, const Inputs<T>& in, const Index* targets,
                           const CrossEntropyOptions& options, double scale, bool add, const Teaching<T>* teaching) {
  Pass all = with_prefix(batch);
  all.scored = !teaching || teaching->needs_logits();
  all.compared = teaching && teaching->head;
  const T one = static_cast<T>(scale);
  const Scoring<T> how{options, &one, 0, teaching};
  const Settle<T> settle{set_};
  begin_gradients(set_, all, add);
  head_.plan_losses(tokens_of(all));
  streams_.plan_losses(all, teaching);
  each_group(all, group_size(all, true), [&](const Pass& whole) {
    const auto learn = [&](const Pass& pass) {
      const Pass tokens = tokens_of(pass);
      const Index* of_pass = tokens.of_batch(targets, 1);
      head_.loss(tokens, normed_.at(tokens), of_pass, how, dnormed_.at(pass));
      run_backward(pass, [&](Index block, const T* x, T* dx) { streams_.pull(pass, block, x, of_pass, how, dx); });
    };
    run_forward(whole, true, in, learn, [&](const Pass& pass, Index block, const T* x) {
      streams_.score(pass, block, x, pass.of_batch(targets, 1), how);
    });
    finish_gradients(whole, in);
  });
  LossSum result = head_.total(tokens_of(all), targets, options.ignore_index);
  result.sum += streams_.total();
  return result;
}

template <class T>
LossSum Gpt<T>::accumulate_with(const Pass& batch, const Inputs<T>& in, const Index* targets,
                                const CrossEntropyOptions& options, bool add, const Between<T>& between) {
  Pass all = with_prefix(batch);
  all.scored = between.of == Between<T>::Of::losses;
  const Settle<T> settle{set_};
  begin_gradients(set_, all, add);
  head_.plan_losses(tokens_of(all));
  const Index size = group_size(all, true);
  const auto ahead = [&](const Pass& whole) {
    run_forward(whole, true, in, [&](const Pass& pass) {
      const Pass tokens = tokens_of(pass);
      head_.give(tokens, normed_.at(tokens), tokens.of_batch(targets, 1), options, between);
    });
  };
  each_group(all, size, ahead);
  head_.take(between.of, between.compute());
  each_group(all, size, [&](const Pass& whole) {
    if (size < all.batch) ahead(whole);  // what it keeps, another group has overwritten
    stack_.each_part(whole, [&](const Pass& pass) {
      const Pass tokens = tokens_of(pass);
      head_.backward(tokens, normed_.at(tokens), tokens.of_batch(targets, 1), options, dnormed_.at(pass));
      run_backward(pass);
    });
    finish_gradients(whole, in);
  });
  return head_.total(tokens_of(all), targets, options.ignore_index);
}

template <class T>
void Gpt<T>::start_generation(Index batch, Index length, const Index* padding, const T* images, Index pictures) {
  end_generation();  // none, should its memory not be there
  stack_.plan_cache(batch, config_.prefix() + length);
  if (config_.attends() && batch > 0) remember_pictures(batch, images, pictures);
  cache_.batch = batch;
  cache_.length = length;
  if (padding) cache_.padding.assign(padding, padding + batch);
  if (prefixes() && batch > 0) see_pictures(images, pictures);
}

/// Brings the rows of pictures into the cache.
template <class T>
void Gpt<T>::see_pictures(const T* images, Index pictures) {
  Pass whole = Pass::whole(cache_.batch, config_.prefix());
  whole.cached = config_.prefix() + cache_.length;
  whole.prefix = whole.time;
  pictures_->encode(Pass::whole(pictures, 0), false, images);
  stack_.prepare(whole, false);
  const Index size = whole.time * config_.d_model, alike = whole.batch / pictures;
  for (Index b = 0; b < whole.batch; ++b)
    std::copy_n(pictures_->output(Pass()) + b / alike * size, size, stack_.input(whole) + b * size);
  stack_.each_part(whole, [&](const Pass& pass) { stack_.forward(pass, [](Index, const T*) {}); });
}

/// Keeps what cross-attention sees: keys and values of all blocks, of the picture of each row.
template <class T>
void Gpt<T>::remember_pictures(Index batch, const T* images, Index pictures) {
  const Index size = memory_.time * memory_.width, alike = batch / pictures;
  require_memory("what generation keeps of pictures",
                 static_cast<double>(batch) * static_cast<double>(size) * sizeof(T));
  T* rows = remembered_.reserve(batch * size);
  pictures_->encode(Pass::whole(pictures, 0), false, images);
  picture_of_.resize(static_cast<std::size_t>(batch));
  for (Index b = 0; b < batch; ++b) {
    picture_of_[static_cast<std::size_t>(b)] = b / alike;
    std::copy_n(pictures_->output(Pass()) + b / alike * size, size, rows + b * size);
  }
}

template <class T>
void Gpt<T>::reorder_memory(const std::vector<Index>& from) {
  const std::vector<Index> had = picture_of_;
  for (std::size_t b = 0; b < from.size(); ++b) picture_of_[b] = had[static_cast<std::size_t>(from[b])];
  if (picture_of_ == had) return;  // as beams of the same pictures are
  const Index size = memory_.time * memory_.width, count = static_cast<Index>(from.size()) * size;
  const std::vector<T> before(remembered_.data(), remembered_.data() + count);
  for (std::size_t b = 0; b < from.size(); ++b)
    std::copy_n(before.data() + from[b] * size, size, remembered_.data() + static_cast<Index>(b) * size);
}

template <class T>
void Gpt<T>::extend_generation(Index length) {
  const Index before = config_.prefix();
  Cache extended = cache_;
  extended.length = length;
  const Index kept = before + cache_.used;
  if (kept == 0) cache_ = {};  // what holds nothing is given up before there is more
  stack_.plan_cache(extended.batch, before + length, kept, before + cache_.length);
  cache_ = extended;
}

template <class T>
void Gpt<T>::next_logits(Index time, const Index* ids, T* logits) {
  Pass whole = Pass::whole(cache_.batch, time);
  whole.start = config_.prefix() + cache_.used;
  whole.cached = config_.prefix() + cache_.length;
  whole.padding = cache_.padding.empty() ? nullptr : cache_.padding.data();
  memory_.rows = remembered_.data();
  run_forward(whole, false, {ids}, [](const Pass&) {});
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
