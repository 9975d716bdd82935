// An encoder of pictures, as that of ViT (Dosovitskiy et al., 2021): patches, a stack of blocks in which every row sees
// all of its picture, norm. Behind it stands the head of a classifier, a projection into a decoder's stream, or nothing.
// Its parameters lie in the set of whoever holds it.
#pragma once

#include <memory>
#include <string>

#include "layers/head.h"
#include "layers/patch_embedding.h"
#include "layers/stack.h"
#include "models/gpt_config.h"
#include "ops/pool.h"

namespace loopos {

template <class T>
class ImageEncoder : private StackEnds<T> {
 public:
  /// prefix: of the names.
  ImageEncoder(ParameterSet<T>& set, const std::string& prefix, Index first_dropout_site, const ImageConfig& config);
  ImageEncoder(const ImageEncoder&) = delete;  // the stack refers to it
  ImageEncoder& operator=(const ImageEncoder&) = delete;

  const ImageConfig& config() const { return config_; }
  ParameterSet<T>& parameters() { return set_; }
  bool trains() const;

  // As a part of a model. `batch` has one sequence for each picture; its time is the model's affair.

  /// Pictures of the batch at once; fewer where their activations would not fit a fixed number of bytes.
  Index group_size(const Pass& batch, bool training) { return stack_.group_size(rows_of(batch), training); }
  /// The rows of pictures (B, height, width, channels), which are kept, and what backward needs of them.
  void encode(const Pass& batch, bool training, const T* images);
  /// (B, P, outputs()), and where its gradient is put before backward.
  T* output(const Pass& batch) const { return (projection_ ? out_ : normed_).at(rows_of(batch)); }
  T* doutput(const Pass& batch) const { return (projection_ ? dout_ : dnormed_).at(rows_of(batch)); }
  /// After encode of the same batch: adds to the parameters' gradients. doutput is overwritten.
  void backward(const Pass& batch);

  // As a model.

  /// rows (B, P, outputs()) of pictures (B, height, width, channels).
  void forward(const Pass& batch, const T* images, T* rows);
  /// Of a classifier: (B, num_classes).
  void logits(const Pass& batch, const T* images, T* result);
  /// Sum of the losses of pictures against labels (B), and how many count.
  LossSum loss(const Pass& batch, const T* images, const Index* labels, const CrossEntropyOptions& options);
  /// Forward and backward: gradients = scale * d(sum of losses), or += with `add`.
  LossSum accumulate(const Pass& batch, const T* images, const Index* labels, const CrossEntropyOptions& options,
                     double scale, bool add);

  /// Bytes that a pass over the batch takes beside weights and gradients: planned, not taken.
  double workspace_bytes(const Pass& batch, bool training);
  /// Bytes of workspace that earlier passes have left.
  double held_bytes() const { return static_cast<double>(stack_.held()) * sizeof(T); }

 private:
  /// The same of the rows of its pictures, and of one row for each.
  Pass rows_of(const Pass& batch) const { return with_time(batch, config_.grid.rows()); }
  Pass one_each(const Pass& batch) const { return with_time(batch, 1); }
  Pass with_time(const Pass& batch, Index time) const {
    Pass pass = batch;
    pass.time = time;
    pass.prefix = pass.start = pass.cached = 0;
    pass.dropout = batch.stochastic ? config_.dropout : 0;  // its own, not that of a model around it
    return pass;
  }
  PoolShape pool_shape(const Pass& pass) const {
    const Index rows = config_.grid.rows(), lead = config_.grid.lead;
    return {pass.batch, rows, config_.d_model, config_.pools_patches ? lead : 0, config_.pools_patches ? rows : 1};
  }
  template <class Then>
  void each_pass(const Pass& batch, bool training, const T* images, Then&& then);
  void run_forward(const Pass& pass, const T* images);
  void run_backward(const Pass& pass);
  void pool(const Pass& pass);
  void finish_gradients(const Pass& whole);

  void plan(Arena<T>& arena, const Pass& pass, Keep keep, const Workspace<T>& work) override;
  void plan_gradients(Arena<T>& arena, const Pass& pass, const Workspace<T>& work) override;
  void visit_weights(const WeightVisitor<T>& visitor) override;
  void gradient_tasks(GradientTasks& tasks) override;
  bool can_part(const Pass& pass) const override { return !head_ || head_->can_part(pass.batch); }
  bool input_trains() const override { return patches_.trains(); }

  void end_gradients(const Pass& pass);
  void norm_gradients(const Pass& pass) { norm_.parameter_gradients(pass, stack_.output(pass), dnormed_.at(pass)); }

  ImageConfig config_;
  ParameterSet<T>& set_;
  PatchEmbedding<T> patches_;
  Stack<T> stack_;
  Norm<T> norm_;
  std::unique_ptr<Head<T>> head_;
  std::unique_ptr<Projection<T>> projection_;
  Rows<T> normed_, dnormed_;  // result of the norm, and its gradient
  Rows<T> out_, dout_;        // of the projection
  Rows<T> pooled_, dpooled_;  // one row for each picture, which the head is given
};

}  // namespace loopos
