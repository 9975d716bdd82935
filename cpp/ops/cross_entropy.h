// Cross-entropy of logits against class numbers, fused with log-softmax. For a row x of V classes with target t:
//   lse = logsumexp(x),  p = softmax(x),  s = label_smoothing (torch's, uniform over V),  z = z_loss
//   loss       = (1 - s) (lse - x_t) + s (lse - mean x) + z lse^2
//   dloss/dx_j = (1 + 2 z lse) p_j - (1 - s) [j = t] - s / V
// A row whose target is ignore_index counts for nothing: loss 0, gradient 0, whatever it holds.
// Stability: the maximum is subtracted, sums and logarithm are in double, and p_t - 1 is computed as -(sum of the other
// p), so the gradient keeps its digits when p_t is near 1. lse is only a shift to backward (it renormalises), so its
// rounding to T does no harm there. A counted row that is all -inf has no distribution: its loss and gradient are the NaN
// that the arithmetic gives, and its guard counts it. A target with logit -inf beside finite ones has loss +inf.
#pragma once

#include "core/check.h"
#include "trace/operands.h"

namespace loopos {

struct CrossEntropyOptions {
  Index ignore_index = -100;
  double label_smoothing = 0, z_loss = 0;
};

/// Every target must be ignore_index or in [0, vocab): std::out_of_range naming position and value.
void check_targets(const char* function, const Index* targets, Index rows, Index vocab, Index ignore_index);

/// logits (rows, vocab), targets (rows) that have passed check_targets. losses (rows) in double; lse (rows) may be
/// null. Returns the number of targets that are not ignored. lse of an ignored row is not written.
template <class T>
Index cross_entropy_forward(const T* logits, const Index* targets, Index rows, Index vocab,
                            const CrossEntropyOptions& options, double* losses, T* lse);

/// Row r of dlogits is multiplied by dloss[r * dloss_stride] (stride 0: one number for all rows). dlogits may be logits
/// itself; lse may be null.
template <class T>
void cross_entropy_backward(const T* dloss, Index dloss_stride, const T* logits, const Index* targets, const T* lse,
                            Index rows, Index vocab, const CrossEntropyOptions& options, T* dlogits);

/// What made the loss of row r.
template <class T>
void cross_entropy_operands(Operands& o, const T* logits, Index target, Index r, Index vocab) {
  o.set("target", target);
  o.take("logits", logits + r * vocab, vocab);
}
/// What made an element of dlogits in row r; the logits themselves may be overwritten by then.
template <class T>
void cross_entropy_backward_operands(Operands& o, T scale, Index target, const T* lse, Index r) {
  o.set("scale", static_cast<double>(scale));
  o.set("target", target);
  o.take("log_sum_exp", lse + r, 1);
}

}  // namespace loopos
