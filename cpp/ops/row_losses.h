// Losses between rows of a student s and of a teacher t, C numbers each:
//   mse             mean over C of (s - t)^2            dloss/ds = 2 (s - t) / C
//   normalized_mse  |s - t|^2 / |t|^2                   dloss/ds = 2 (s - t) / |t|^2
//   cosine          1 - s t / (|s| |t|)                 dloss/ds = -(t' - (s' t') s') / |s|,  s' = s / |s|, t' = t / |t|
// normalized_mse does not change when both are scaled, cosine not when either is.
// A row without a direction (t is zero; for cosine s or t) has no such loss: it counts for nothing, loss 0 and gradient
// 0, and is counted by the guard of that name.
// Stability: all in double. Norms are taken of x / max |x|, so that no square leaves the range. The cosine's loss is
// |s' - t'|^2 / 2 and its gradient -((t' - s') + loss s') / |s|: both keep their digits where s and t are nearly
// parallel. Nothing is kept for backward.
#pragma once

#include "ops/loss_rows.h"
#include "trace/operands.h"

namespace loopos {

enum class RowLoss { mse, normalized_mse, cosine };

struct RowLossChoice {
  const char* name;
  RowLoss kind;
};
constexpr RowLossChoice kRowLosses[] = {
    {"mse", RowLoss::mse}, {"normalized_mse", RowLoss::normalized_mse}, {"cosine", RowLoss::cosine}};
constexpr const char* row_loss_name(RowLoss loss) {
  return kRowLosses[static_cast<int>(loss)].name;
}

/// student, teacher (rows, width); losses (rows) in double. Returns the number of rows that count.
template <class T>
Index row_loss_forward(RowLoss loss, const T* student, const T* teacher, const CountedRows& counted, Index rows,
                       Index width, const LossBlend& blend, double* losses);

/// dstudent = dloss times the gradient of the sum of the rows' losses, overwritten, and it may be student itself; with
/// add it is added to what is there.
template <class T>
void row_loss_backward(RowLoss loss, double dloss, const T* student, const T* teacher, const CountedRows& counted,
                       Index rows, Index width, T* dstudent, bool add = false);

/// What made the loss of row r, or an element of dstudent in it.
template <class T>
void row_loss_operands(Operands& o, const T* student, const T* teacher, Index r, Index width) {
  o.take("student", student + r * width, width);
  o.take("teacher", teacher + r * width, width);
}

}  // namespace loopos
