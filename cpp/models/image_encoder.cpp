#include "models/image_encoder.h"

#include <algorithm>

#include "models/gradients.h"

namespace loopos {

template <class T>
ImageEncoder<T>::ImageEncoder(ParameterSet<T>& set, const std::string& prefix, Index first_dropout_site,
                              const ImageConfig& c)
    : config_(c),
      set_(set),
      patches_(set, prefix, first_dropout_site, c.d_model, {c.grid, c.bias, kStd}),
      stack_(set, prefix, *this, c.d_model, first_dropout_site + 1, block_configs(c, Visibility())),
      norm_(set, {prefix + "final_norm", -1}, c.d_model, norm_config(c)) {
  if (c.num_classes)
    head_ =
        std::make_unique<Head<T>>(set, prefix + "classifier", c.num_classes, c.d_model, kStd, WeightUse::learns, true);
  if (c.decoder_width)
    projection_ = make_projection(set, {prefix + "projection", -1}, {c.d_model, c.decoder_width, c.bias, kStd});
}

template <class T>
bool ImageEncoder<T>::trains() const {
  return patches_.trains() || norm_.trains() || stack_.trains() || (projection_ && projection_->trains());
}

template <class T>
void ImageEncoder<T>::run_forward(const Pass& pass, const T* images) {
  patches_.forward(pass, pass.of_images(images, config_.grid.image_size()), stack_.input(pass));
  stack_.forward(pass, [](Index, const T*) {});
  norm_.forward(pass, stack_.output(pass), normed_.at(pass));
  if (projection_) projection_->forward(pass, normed_.at(pass), nullptr, out_.at(pass));
}

/// From the gradient of what stands behind the stack down to that of the patches' rows.
template <class T>
void ImageEncoder<T>::run_backward(const Pass& pass) {
  if (projection_) projection_->backward(pass, dout_.at(pass), dnormed_.at(pass));
  stack_.due([&] { end_gradients(pass); });
  norm_.backward(pass, stack_.output(pass), dnormed_.at(pass), nullptr, stack_.doutput(pass));
  stack_.due([&] { norm_gradients(pass); });
  stack_.backward(pass, [](Index, const T*, T*) {});
}

template <class T>
void ImageEncoder<T>::finish_gradients(const Pass& whole) {
  stack_.finish_gradients(whole);
  patches_.parameter_gradients(stack_.placed(whole), stack_.dinput(whole));
}

/// Of what stands behind the norm.
template <class T>
void ImageEncoder<T>::end_gradients(const Pass& pass) {
  if (head_) head_->parameter_gradients(one_each(pass), pooled_.at(one_each(pass)));
  if (projection_) projection_->parameter_gradients(pass, dout_.at(pass), normed_.at(pass));
}

template <class T>
void ImageEncoder<T>::plan(Arena<T>& arena, const Pass& pass, Keep keep, const Workspace<T>& work) {
  patches_.plan(arena, pass);
  norm_.plan(arena, pass);
  normed_ = keep == Keep::costly ? work.normed : take_rows(arena, pass, config_.d_model);
  out_ = projection_ ? take_rows(arena, pass, config_.decoder_width) : Rows<T>{};
  if (!head_) return;
  pooled_ = take_rows(arena, one_each(pass), config_.d_model);
  head_->plan(arena, one_each(pass));
}

template <class T>
void ImageEncoder<T>::plan_gradients(Arena<T>& arena, const Pass& pass, const Workspace<T>& work) {
  dnormed_ = work.dnormed;
  norm_.plan_gradients(arena, pass, work);
  if (projection_) dout_ = take_rows(arena, pass, config_.decoder_width);
  if (head_) dpooled_ = take_rows(arena, one_each(pass), config_.d_model);
}

template <class T>
void ImageEncoder<T>::visit_weights(const WeightVisitor<T>& visitor) {
  patches_.visit_weights(visitor);
  if (head_) head_->visit_weights(visitor);
  if (projection_) projection_->visit_weights(visitor);
}

template <class T>
void ImageEncoder<T>::gradient_tasks(GradientTasks& tasks) {
  tasks.push_back({config_.d_model * std::max(config_.num_classes, config_.decoder_width),
                   [this](const Pass& pass) { end_gradients(pass); }});
  tasks.push_back({norm_.size(), [this](const Pass& pass) { norm_gradients(pass); }});
}

template <class T>
void ImageEncoder<T>::encode(const Pass& batch, bool training, const T* images) {
  const Pass whole = rows_of(batch);
  stack_.prepare(whole, training);
  stack_.each_part(whole, [&](const Pass& pass) { run_forward(pass, images); });
}

template <class T>
void ImageEncoder<T>::backward(const Pass& batch) {
  const Pass whole = rows_of(batch);
  stack_.each_part(whole, [&](const Pass& pass) { run_backward(pass); });
  finish_gradients(whole);
}

/// encode, in groups and parts of the batch; then(part) follows.
template <class T>
template <class Then>
void ImageEncoder<T>::each_pass(const Pass& batch, bool training, const T* images, Then&& then) {
  const Pass all = rows_of(batch);
  each_group(all, stack_.group_size(all, training), [&](const Pass& whole) {
    stack_.prepare(whole, training);
    stack_.each_part(whole, [&](const Pass& pass) {
      run_forward(pass, images);
      then(pass);
    });
    if (training) finish_gradients(whole);
  });
}

template <class T>
void ImageEncoder<T>::pool(const Pass& pass) {
  const Pass one = one_each(pass);
  const PoolShape shape = pool_shape(pass);
  const T* x = normed_.at(pass);
  T* pooled = pooled_.at(one);
  pool_forward(x, shape, pooled);
  pass.see("forward", -1, "pool", "", "pooled", pooled, {pass.batch, config_.d_model},
           [&](Operands& o) { pool_operands(o, x, shape); });
}

template <class T>
void ImageEncoder<T>::forward(const Pass& batch, const T* images, T* rows) {
  const Index width = config_.outputs();
  each_pass(batch, false, images,
            [&](const Pass& pass) { std::copy_n(output(pass), pass.rows() * width, pass.of_batch(rows, width)); });
}

template <class T>
void ImageEncoder<T>::logits(const Pass& batch, const T* images, T* result) {
  each_pass(batch, false, images, [&](const Pass& pass) {
    const Pass one = one_each(pass);
    pool(pass);
    head_->forward(one, pooled_.at(one), one.of_batch(result, config_.num_classes));
  });
}

template <class T>
LossSum ImageEncoder<T>::loss(const Pass& batch, const T* images, const Index* labels,
                              const CrossEntropyOptions& options) {
  Pass all = batch;
  all.scored = true;
  head_->plan_losses(one_each(all));
  each_pass(all, false, images, [&](const Pass& pass) {
    const Pass one = one_each(pass);
    pool(pass);
    head_->loss(one, pooled_.at(one), one.of_batch(labels, 1), {options}, nullptr);
  });
  return head_->total(one_each(all), labels, options.ignore_index);
}

template <class T>
LossSum ImageEncoder<T>::accumulate(const Pass& batch, const T* images, const Index* labels,
                                    const CrossEntropyOptions& options, double scale, bool add) {
  Pass all = batch;
  all.scored = true;
  const T once = static_cast<T>(scale);
  const Scoring<T> how{options, &once};
  const Settle<T> settle{set_};
  begin_gradients(set_, all, add);
  head_->plan_losses(one_each(all));
  each_pass(all, true, images, [&](const Pass& pass) {
    const Pass one = one_each(pass);
    pool(pass);
    T *dpooled = dpooled_.at(one), *dnormed = dnormed_.at(pass);
    head_->loss(one, pooled_.at(one), one.of_batch(labels, 1), how, dpooled);
    pool_backward(dpooled, pool_shape(pass), dnormed);
    pass.see("backward", -1, "pool", "", "final.dx", dnormed, {pass.batch, pass.time, config_.d_model},
             [&](Operands& o) { pool_backward_operands(o, dpooled, pool_shape(pass)); });
    run_backward(pass);
  });
  return head_->total(one_each(all), labels, options.ignore_index);
}

template <class T>
double ImageEncoder<T>::workspace_bytes(const Pass& batch, bool training) {
  Pass all = rows_of(batch);
  all.scored = head_ != nullptr;
  const Index pictures = std::min(all.batch, stack_.group_size(all, training));
  return static_cast<double>(stack_.measure(all.group(0, pictures), training)) * sizeof(T);
}

template class ImageEncoder<float>;
template class ImageEncoder<double>;

}  // namespace loopos
