#include "ops/row_losses.h"

#include <algorithm>
#include <atomic>
#include <cmath>

#include "core/thread_pool.h"
#include "trace/guards.h"

namespace loopos {
namespace {

Guard without_scale("normalized_mse"), without_direction("cosine");

template <class T>
double norm(const T* x, Index n) {
  double top = 0, sum = 0;
  for (Index i = 0; i < n; ++i) {
    const double size = std::abs(static_cast<double>(x[i]));
    if (!(size <= top)) top = size;  // a NaN stays
  }
  if (top == 0 || !std::isfinite(top)) return top;
  for (Index i = 0; i < n; ++i) {
    const double part = static_cast<double>(x[i]) / top;
    sum += part * part;
  }
  return top * std::sqrt(sum);
}

/// The norms of a row that its loss divides by, 1 where it does not.
struct Lengths {
  double student = 1, teacher = 1;
  bool zero() const { return student == 0 || teacher == 0; }
};

template <class T>
Lengths lengths(RowLoss loss, const T* s, const T* t, Index width) {
  Lengths result;
  if (loss == RowLoss::cosine) result.student = norm(s, width);
  if (loss != RowLoss::mse) result.teacher = norm(t, width);
  return result;
}

/// Of a row with these lengths: |s' - t'|^2, where s' and t' are divided as the loss divides them.
template <class T>
double distance(RowLoss loss, const Lengths& length, const T* s, const T* t, Index width) {
  const double by = loss == RowLoss::cosine ? length.student : length.teacher;
  double sum = 0;
  for (Index i = 0; i < width; ++i) {
    const double a = static_cast<double>(s[i]), b = static_cast<double>(t[i]);
    const double part = loss == RowLoss::cosine ? a / by - b / length.teacher : (a - b) / by;
    sum += part * part;
  }
  return sum;
}

double share(RowLoss loss, Index width) {
  return loss == RowLoss::mse ? 1 / static_cast<double>(width) : loss == RowLoss::cosine ? 0.5 : 1.0;
}

}  // namespace

template <class T>
Index row_loss_forward(RowLoss loss, const T* student, const T* teacher, const CountedRows& counted, Index rows,
                       Index width, const LossBlend& blend, double* losses) {
  std::atomic<Index> counting{0}, skipped{0};
  parallel_blocks(rows, row_grain(width, 4), [&](Index begin, Index end) {
    for (Index r = begin; r < end; ++r) {
      double value = 0;
      if (counted.counts(r)) {
        const T *s = student + r * width, *t = teacher + r * width;
        const Lengths length = lengths(loss, s, t, width);
        ++(length.zero() ? skipped : counting);
        if (!length.zero()) value = share(loss, width) * distance(loss, length, s, t, width);
      }
      losses[r] = blend(losses[r], value);
    }
  });
  (loss == RowLoss::cosine ? without_direction : without_scale).count(skipped);
  return counting;
}

template <class T>
void row_loss_backward(RowLoss loss, double dloss, const T* student, const T* teacher, const CountedRows& counted,
                       Index rows, Index width, T* dstudent, bool add) {
  parallel_blocks(rows, row_grain(width, 4), [&](Index begin, Index end) {
    for (Index r = begin; r < end; ++r) {
      const T *s = student + r * width, *t = teacher + r * width;
      T* out = dstudent + r * width;
      const Lengths length = counted.counts(r) ? lengths(loss, s, t, width) : Lengths{0, 0};
      if (length.zero()) {
        if (!add) std::fill_n(out, width, T(0));
        continue;
      }
      const bool cosine = loss == RowLoss::cosine;
      const double value = cosine ? 0.5 * distance(loss, length, s, t, width) : 0,
                   factor = cosine ? -dloss / length.student : 2 * dloss * share(loss, width) / length.teacher;
      for (Index i = 0; i < width; ++i) {
        const double a = static_cast<double>(s[i]), b = static_cast<double>(t[i]), there = add ? out[i] : T(0);
        const double unit = a / length.student;
        const double part = cosine ? (b / length.teacher - unit) + value * unit : (a - b) / length.teacher;
        out[i] = static_cast<T>(there + factor * part);
      }
    }
  });
}

#define LOOPOS_INSTANTIATE(T)                                                                                      \
  template Index row_loss_forward(RowLoss, const T*, const T*, const CountedRows&, Index, Index, const LossBlend&, \
                                  double*);                                                                        \
  template void row_loss_backward(RowLoss, double, const T*, const T*, const CountedRows&, Index, Index, T*, bool);
LOOPOS_INSTANTIATE(float)
LOOPOS_INSTANTIATE(double)

}  // namespace loopos
