// Kullback-Leibler divergence of a student's distribution from a teacher's, with temperature (Hinton et al. 2015). For
// rows s and t of V logits and temperature h:
//   p = softmax(t / h), q = softmax(s / h)
//   loss = h^2 sum p (log p - log q)           dloss/ds = h (q - p)
// h^2 keeps the size of the gradient the same at every temperature.
// A row whose target is ignore_index counts for nothing: loss 0, gradient 0, whatever it holds. What the teacher gives
// probability 0 adds nothing; what the student alone gives 0 makes the loss +inf. A counted row of which either side is
// all -inf has no distribution: its loss and gradient are the NaN that the arithmetic gives, and its guard counts it.
// Stability: the maximum is subtracted before the temperature divides; sums and logarithms are in double; log p - log q
// is the difference of the shifted logits less that of the logarithms of the totals. Where so little is left that
// rounding in float could show, the row is summed again in double as p (d + expm1(-d)), d = log p - log q, whose terms
// are never negative; double always does so.
#pragma once

#include "ops/loss_rows.h"
#include "trace/operands.h"

namespace loopos {

/// Kept of a row for its backward: the largest logits, and the sums of e^((x - top) / h).
template <class T>
struct KlRow {
  T student_top, teacher_top;
  double student_total, teacher_total;
};

struct KlOptions {
  double temperature = 1;
  CountedRows counted{};
};

/// student, teacher (rows, vocab); losses (rows) in double, kept (rows). Returns the number of rows that count.
template <class T>
Index kl_forward(const T* student, const T* teacher, Index rows, Index vocab, const KlOptions& options,
                 const LossBlend& blend, double* losses, KlRow<T>* kept);

/// dstudent = dloss times the gradient of the sum of the rows' losses, overwritten; it may be student or teacher.
template <class T>
void kl_backward(double dloss, const T* student, const T* teacher, const KlRow<T>* kept, Index rows, Index vocab,
                 const KlOptions& options, T* dstudent);

/// What made the loss of row r.
template <class T>
void kl_operands(Operands& o, const T* student, const T* teacher, Index r, Index vocab, const KlOptions& options) {
  o.set("temperature", options.temperature);
  o.take("student", student + r * vocab, vocab);
  o.take("teacher", teacher + r * vocab, vocab);
}
/// What made an element of dstudent in row r; the logits themselves may be overwritten by then.
template <class T>
void kl_backward_operands(Operands& o, double dloss, const KlRow<T>* kept, Index r, const KlOptions& options) {
  o.set("scale", dloss);
  o.set("temperature", options.temperature);
  o.set("student_total", kept[r].student_total);
  o.set("teacher_total", kept[r].teacher_total);
}

}  // namespace loopos
