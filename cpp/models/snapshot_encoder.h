// A network that predicts a covariance: rows of a sample, a stack of blocks in which every row sees all of its sample,
// norm, and a projection to the numbers that a covariance is made of: of the mean over the rows, or of each row. Rows
// have no positions. So the mean does not depend on their order but for rounding, and the numbers of each row go where
// the row goes. What is made of those numbers, and the loss, are the caller's: it is called once, between forward and
// backward of the whole batch.
//
//   rows (B, L, channels) -> x Wᵀ + b (B, L, C) -> blocks -> norm -> mean over L (B, C) -> x Wᵀ + b (B, outputs)
//                                                            norm ----------------------> x Wᵀ + b (B, L, outputs)
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "layers/stack.h"
#include "models/gpt_config.h"
#include "ops/pool.h"

namespace loopos {

/// The network: its blocks, and what stands around them.
struct SnapshotConfig : BlocksConfig {
  Index channels;      // numbers of a row
  Index outputs;       // numbers for each sample, or for each row
  bool pooled;         // they are of the mean over a sample's rows
  bool learns_blend;   // a parameter beside the network: the logit of the weight between two covariances
  double blend_logit;  // its initial value

  /// Numbers for a sample of so many rows.
  Index numbers(Index rows) const { return pooled ? outputs : rows * outputs; }
};

/// A loss of what the network gives for the whole batch, which is worked out elsewhere.
template <class T>
struct SnapshotLoss {
  struct Result {
    double sum;        // of the samples' losses
    const T* doutput;  // (B, numbers): its gradient, as it is to flow back
    double dblend;     // by the logit of the blend
  };
  T* output;  // (B, numbers), to be filled before compute is called
  std::function<Result()> compute;
};

template <class T>
class SnapshotEncoder : private StackEnds<T> {
 public:
  SnapshotEncoder(ParameterSet<T>& set, const SnapshotConfig& config);
  SnapshotEncoder(const SnapshotEncoder&) = delete;  // the stack refers to it
  SnapshotEncoder& operator=(const SnapshotEncoder&) = delete;

  const SnapshotConfig& config() const { return config_; }
  ParameterSet<T>& parameters() { return set_; }

  /// (B, numbers) of rows (B, L, channels). `batch` brings B and L.
  void forward(const Pass& batch, const T* rows, T* output);
  /// Forward, the loss, backward: gradients = the loss's, or += with `add`. Returns its sum. Where the batch is taken in
  /// several groups, each is taken forward twice, with the same dropout.
  double accumulate(const Pass& batch, const T* rows, bool add, const SnapshotLoss<T>& loss);

  /// Bytes that a pass over the batch takes beside weights and gradients: planned, not taken.
  double workspace_bytes(const Pass& batch, bool training);
  /// Bytes of workspace that earlier passes have left.
  double held_bytes() const { return static_cast<double>(stack_.held()) * sizeof(T); }

 private:
  /// The same of one row for each sample.
  static Pass one_each(const Pass& pass) {
    Pass one = pass;
    one.time = 1;
    return one;
  }
  /// The rows that the last projection reads.
  Pass read(const Pass& pass) const { return config_.pooled ? one_each(pass) : pass; }
  PoolShape pool_shape(const Pass& pass) const { return {pass.batch, pass.time, config_.d_model, 0, pass.time}; }
  void run_forward(const Pass& whole, bool training, const T* rows, T* output);
  void run_backward(const Pass& whole, const T* rows, const T* doutput);
  void output_gradients(const Pass& pass, const T* doutput) {
    const Pass rows = read(pass);
    output_->parameter_gradients(rows, doutput, config_.pooled ? pooled_.at(rows) : normed_.at(rows));
  }
  void norm_gradients(const Pass& pass) { norm_.parameter_gradients(pass, stack_.output(pass), dnormed_.at(pass)); }

  void plan(Arena<T>& arena, const Pass& pass, Keep keep, const Workspace<T>& work) override;
  void plan_gradients(Arena<T>& arena, const Pass& pass, const Workspace<T>& work) override;
  void visit_weights(const WeightVisitor<T>& visitor) override;
  void gradient_tasks(GradientTasks& tasks) override;
  bool can_part(const Pass&) const override { return true; }
  bool input_trains() const override { return input_->trains(); }

  SnapshotConfig config_;
  ParameterSet<T>& set_;
  std::unique_ptr<Projection<T>> input_;
  Stack<T> stack_;
  Norm<T> norm_;
  std::unique_ptr<Projection<T>> output_;
  Parameter<T>* blend_ = nullptr;
  Rows<T> normed_, dnormed_;    // result of the norm, and its gradient
  Rows<T> pooled_, dpooled_;    // one row for each sample
  const T* doutput_ = nullptr;  // of the whole batch, while backward runs
};

}  // namespace loopos
