#include "models/snapshot_encoder.h"

#include <algorithm>

#include "models/gradients.h"

namespace loopos {

template <class T>
SnapshotEncoder<T>::SnapshotEncoder(ParameterSet<T>& set, const SnapshotConfig& c)
    : config_(c),
      set_(set),
      input_(make_projection(set, {"snapshot", -1}, {c.channels, c.d_model, c.bias, kStd})),
      stack_(set, "", *this, c.d_model, 0, block_configs(c, Visibility())),
      norm_(set, {"final_norm", -1}, c.d_model, norm_config(c)),
      output_(make_projection(set, {"factor", -1}, {c.d_model, c.outputs, c.bias, kStd})) {
  if (c.learns_blend) blend_ = set.add("blend", {1}, c.blend_logit, 0);
}

/// Of all parts of a group.
template <class T>
void SnapshotEncoder<T>::run_forward(const Pass& whole, bool training, const T* rows, T* output) {
  stack_.prepare(whole, training);
  stack_.each_part(whole, [&](const Pass& pass) {
    const Pass end = read(pass);
    input_->forward(pass, pass.of_batch(rows, config_.channels), nullptr, stack_.input(pass));
    stack_.forward(pass, [](Index, const T*) {});
    const T *normed = normed_.at(pass), *last = normed;
    norm_.forward(pass, stack_.output(pass), normed_.at(pass));
    if (config_.pooled) {
      T* pooled = pooled_.at(end);
      pool_forward(normed, pool_shape(pass), pooled);
      pass.see("forward", -1, "pool", "", "pooled", pooled, {pass.batch, config_.d_model},
               [&](Operands& o) { pool_operands(o, normed, pool_shape(pass)); });
      last = pooled;
    }
    output_->forward(end, last, nullptr, end.of_batch(output, config_.outputs));
  });
}

template <class T>
void SnapshotEncoder<T>::run_backward(const Pass& whole, const T* rows, const T* doutput) {
  doutput_ = doutput;
  stack_.each_part(whole, [&](const Pass& pass) {
    const Pass end = read(pass);
    T* dnormed = dnormed_.at(pass);
    const T* dy = end.of_batch(doutput, config_.outputs);
    T* dlast = config_.pooled ? dpooled_.at(end) : dnormed;
    output_->backward(end, dy, dlast);
    stack_.due([&] { output_gradients(pass, dy); });
    if (config_.pooled) {
      pool_backward(dlast, pool_shape(pass), dnormed);
      pass.see("backward", -1, "pool", "", "final.dx", dnormed, {pass.batch, pass.time, config_.d_model},
               [&](Operands& o) { pool_backward_operands(o, dlast, pool_shape(pass)); });
    }
    norm_.backward(pass, stack_.output(pass), dnormed, nullptr, stack_.doutput(pass));
    stack_.due([&] { norm_gradients(pass); });
    stack_.backward(pass, [](Index, const T*, T*) {});
  });
  stack_.finish_gradients(whole);
  if (input_->trains()) {
    const Pass placed = stack_.placed(whole);
    input_->parameter_gradients(placed, stack_.dinput(whole), placed.of_batch(rows, config_.channels));
  }
}

template <class T>
void SnapshotEncoder<T>::forward(const Pass& batch, const T* rows, T* output) {
  each_group(batch, stack_.group_size(batch, false),
             [&](const Pass& whole) { run_forward(whole, false, rows, output); });
}

template <class T>
double SnapshotEncoder<T>::accumulate(const Pass& batch, const T* rows, bool add, const SnapshotLoss<T>& loss) {
  const Settle<T> settle{set_};
  begin_gradients(set_, batch, add);
  const Index size = stack_.group_size(batch, true);
  each_group(batch, size, [&](const Pass& whole) { run_forward(whole, true, rows, loss.output); });
  const auto found = loss.compute();
  batch.see("forward", -1, "covariance", "", "loss", &found.sum, {1});
  batch.see("backward", -1, "covariance", "", "factor.dy", found.doutput, {batch.batch, config_.numbers(batch.time)});
  if (blend_ && blend_->trainable) *blend_->sum() += static_cast<T>(found.dblend);
  each_group(batch, size, [&](const Pass& whole) {
    if (size < batch.batch) run_forward(whole, true, rows, loss.output);  // what it keeps, another has overwritten
    run_backward(whole, rows, found.doutput);
  });
  return found.sum;
}

template <class T>
void SnapshotEncoder<T>::plan(Arena<T>& arena, const Pass& pass, Keep keep, const Workspace<T>& work) {
  norm_.plan(arena, pass);
  normed_ = keep == Keep::costly ? work.normed : take_rows(arena, pass, config_.d_model);
  if (config_.pooled) pooled_ = take_rows(arena, one_each(pass), config_.d_model);
  output_->plan(arena, read(pass), keep);
  input_->plan(arena, pass, keep);
}

template <class T>
void SnapshotEncoder<T>::plan_gradients(Arena<T>& arena, const Pass& pass, const Workspace<T>& work) {
  dnormed_ = work.dnormed;
  norm_.plan_gradients(arena, pass, work);
  if (config_.pooled) dpooled_ = take_rows(arena, one_each(pass), config_.d_model);
}

template <class T>
void SnapshotEncoder<T>::visit_weights(const WeightVisitor<T>& visitor) {
  input_->visit_weights(visitor);
  output_->visit_weights(visitor);
}

template <class T>
void SnapshotEncoder<T>::gradient_tasks(GradientTasks& tasks) {
  tasks.push_back({config_.d_model * config_.outputs, [this](const Pass& pass) {
                     output_gradients(pass, read(pass).of_batch(doutput_, config_.outputs));
                   }});
  tasks.push_back({norm_.size(), [this](const Pass& pass) { norm_gradients(pass); }});
}

template <class T>
double SnapshotEncoder<T>::workspace_bytes(const Pass& batch, bool training) {
  const Index samples = std::min(batch.batch, stack_.group_size(batch, training));
  return static_cast<double>(stack_.measure(batch.group(0, samples), training)) * sizeof(T);
}

template class SnapshotEncoder<float>;
template class SnapshotEncoder<double>;

}  // namespace loopos
