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
Index row_loss_forward(RowLoss loss, const T* student, const T* teacher, Index rows, Index width, double* losses) {
  std::atomic<Index> skipped{0};
  parallel_blocks(rows, row_grain(width, 4), [&](Index begin, Index end) {
    for (Index r = begin; r < end; ++r) {
      const T *s = student + r * width, *t = teacher + r * width;
      const Lengths length = lengths(loss, s, t, width);
      losses[r] = length.zero() ? 0 : share(loss, width) * distance(loss, length, s, t, width);
      skipped += length.zero();
    }
  });
  (loss == RowLoss::cosine ? without_direction : without_scale).count(skipped);
  return rows - skipped;
}

template <class T>
void row_loss_backward(RowLoss loss, double dloss, const T* student, const T* teacher, Index rows, Index width,
                       T* dstudent) {
  parallel_blocks(rows, row_grain(width, 4), [&](Index begin, Index end) {
    for (Index r = begin; r < end; ++r) {
      const T *s = student + r * width, *t = teacher + r * width;
      T* out = dstudent + r * width;
      const Lengths length = lengths(loss, s, t, width);
      if (length.zero()) {
        std::fill_n(out, width, T(0));
      } else if (loss == RowLoss::cosine) {
        const double value = 0.5 * distance(loss, length, s, t, width), factor = dloss / length.student;
        for (Index i = 0; i < width; ++i) {
          const double a = static_cast<double>(s[i]) / length.student, b = static_cast<double>(t[i]) / length.teacher;
          out[i] = static_cast<T>(-factor * ((b - a) + value * a));
        }
      } else {
        const double factor = 2 * dloss * share(loss, width) / length.teacher;
        for (Index i = 0; i < width; ++i)
          out[i] = static_cast<T>(factor * ((static_cast<double>(s[i]) - static_cast<double>(t[i])) / length.teacher));
      }
    }
  });
}

#define LOOPOS_INSTANTIATE(T)                                                          \
  template Index row_loss_forward(RowLoss, const T*, const T*, Index, Index, double*); \
  template void row_loss_backward(RowLoss, double, const T*, const T*, Index, Index, T*);
LOOPOS_INSTANTIATE(float)
LOOPOS_INSTANTIATE(double)

}  // namespace loopos
