// Distillation of the residual stream: what flows out of each block but the last against what flows out of a teacher's,
// row by row (ops/row_losses.h). The last one is compared behind the final norm, in the head (layers/head.h).
#pragma once

#include <numeric>
#include <string>
#include <vector>

#include "layers/pass.h"
#include "layers/teaching.h"

namespace loopos {

template <class T>
class Streams {
 public:
  explicit Streams(Index width) : width_(width) {}

  /// Room for the losses of a batch, which are 0 yet; none where nothing is compared.
  void plan_losses(const Pass& batch, const Teaching<T>* teaching) {
    losses_.assign(static_cast<std::size_t>(teaching && teaching->streams ? batch.rows() : 0), 0.0);
  }

  /// Adds the losses of x (rows, C), what flows out of this block. targets: of these rows.
  void score(const Pass& pass, Index block, const T* x, const Index* targets, const Scoring<T>& how) {
    const T* hidden = teacher(pass, block, how);
    if (!hidden) return;
    const Teaching<T>& teaching = *how.teaching;
    double* losses = losses_.data() + pass.rows_before();
    row_loss_forward(teaching.rows, x, hidden, {targets, how.options.ignore_index}, pass.rows(), width_,
                     {teaching.weight, 1}, losses);
    pass.see("forward", block, row_loss_name(teaching.rows), site(block), "stream.loss", losses,
             {pass.batch, pass.time},
             [&](Operands& o) { row_loss_operands(o, x, hidden, o.row() * pass.time + o.column(), width_); });
  }

  /// Adds their gradient by x to dx, what comes to x from behind.
  void pull(const Pass& pass, Index block, const T* x, const Index* targets, const Scoring<T>& how, T* dx) const {
    const T* hidden = teacher(pass, block, how);
    if (!hidden) return;
    const Teaching<T>& teaching = *how.teaching;
    row_loss_backward(teaching.rows, static_cast<double>(*how.scale) * teaching.weight, x, hidden,
                      {targets, how.options.ignore_index}, pass.rows(), width_, dx, true);
    pass.see("backward", block, row_loss_name(teaching.rows), site(block), "stream.dx", dx,
             {pass.batch, pass.time, width_}, [&](Operands& o) { row_loss_operands(o, x, hidden, o.row(), width_); });
  }

  double total() const { return std::accumulate(losses_.begin(), losses_.end(), 0.0); }

 private:
  static std::string site(Index block) { return "blocks." + std::to_string(block); }
  /// The teacher's rows behind this block; null where they are not compared.
  const T* teacher(const Pass& pass, Index block, const Scoring<T>& how) const {
    const Teaching<T>* teaching = how.teaching;
    if (!teaching || block >= teaching->streams) return nullptr;
    return pass.of_batch(teaching->stream + block * teaching->stride, width_);
  }

  Index width_;
  std::vector<double> losses_;
};

}  // namespace loopos
