#include "ops/kl.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <limits>
#include <type_traits>

#include "core/thread_pool.h"
#include "kernels/isa/table.h"
#include "trace/guards.h"

namespace loopos {
namespace {

Guard fully_masked("kl");

constexpr Index kPanel = 512;  // logits of a row that are worked on at once
template <class T>
using Panel = std::array<T, kPanel>;

/// body(first, count) for each panel of a row.
template <class Body>
void each_panel(Index vocab, Body&& body) {
  for (Index first = 0; first < vocab; first += kPanel) body(first, std::min(kPanel, vocab - first));
}

/// y = (x - top) / h
template <class T>
void shifted(const T* x, Index n, T top, T inverse, T* y) {
  const auto& k = kernels::table<T>();
  k.subtract_twice(x, n, top, T(0), y);
  if (inverse != 1) k.scale(y, n, inverse, y);
}

template <class T>
double total(const T* x, Index vocab, T top, T inverse) {
  Panel<T> panel;
  double sum = 0;
  each_panel(vocab, [&](Index first, Index n) {
    shifted(x + first, n, top, inverse, panel.data());
    sum += kernels::table<T>().exp_sum_only(panel.data(), n, T(0));
  });
  return sum;
}

/// Sum of p (d + expm1(-d)) = p d - p + q, term by term in double.
template <class T>
double careful(const T* s, const T* t, Index vocab, const KlRow<T>& row, double temperature) {
  const double logs = std::log(row.teacher_total), log_student = std::log(row.student_total);
  const double st = static_cast<double>(row.student_top), tt = static_cast<double>(row.teacher_top);
  constexpr double kFar = -30;  // q is so much the larger that expm1 might leave the range, and nothing cancels
  double sum = 0;
  for (Index j = 0; j < vocab; ++j) {
    const double a = (static_cast<double>(t[j]) - tt) / temperature - logs;
    const double b = (static_cast<double>(s[j]) - st) / temperature - log_student;
    const double p = std::exp(a), d = a - b;
    if (p == 0)
      sum += std::exp(b);
    else if (d == std::numeric_limits<double>::infinity())
      sum += d;
    else
      sum += d < kFar ? p * (d - 1) + std::exp(b) : p * (d + std::expm1(-d));
  }
  return sum;
}

template <class T>
double divergence(const T* s, const T* t, Index vocab, const KlRow<T>& row, double temperature, T inverse) {
  if constexpr (std::is_same_v<T, double>) return careful(s, t, vocab, row, temperature);
  constexpr double kSmall = 1e-6;  // of a sum of floats with unit in the last place 1e-7
  const auto& k = kernels::table<T>();
  Panel<T> a, b;
  double sum = 0;
  each_panel(vocab, [&](Index first, Index n) {
    shifted(t + first, n, row.teacher_top, inverse, a.data());
    shifted(s + first, n, row.student_top, inverse, b.data());
    k.blend(a.data(), T(1), b.data(), T(-1), n, b.data());
    k.exp_sum(a.data(), n, T(0), a.data());
    sum += k.dot(a.data(), b.data(), n);
  });
  const double rest = std::log(row.student_total) - std::log(row.teacher_total);
  if (sum == 0 && rest == 0) return 0;  // one distribution
  const double loss = sum / row.teacher_total + rest;
  if (loss > kSmall) return loss;  // also +inf
  if (std::isnan(row.student_total) || std::isnan(row.teacher_total)) return loss;
  // So little, or a NaN out of 0 * inf, where both sides mask an entry: the totals in double as well.
  KlRow<T> exact = row;
  exact.student_total = exact.teacher_total = 0;
  for (Index j = 0; j < vocab; ++j) {
    exact.student_total += std::exp((static_cast<double>(s[j]) - static_cast<double>(row.student_top)) / temperature);
    exact.teacher_total += std::exp((static_cast<double>(t[j]) - static_cast<double>(row.teacher_top)) / temperature);
  }
  return careful(s, t, vocab, exact, temperature);
}

}  // namespace

template <class T>
Index kl_forward(const T* student, const T* teacher, Index rows, Index vocab, const KlOptions& options,
                 const LossBlend& blend, double* losses, KlRow<T>* kept) {
  const auto& k = kernels::table<T>();
  const double h = options.temperature;
  const T inverse = static_cast<T>(1 / h);
  constexpr T kMasked = -std::numeric_limits<T>::infinity();
  std::atomic<Index> counting{0}, masked{0};
  parallel_blocks(rows, row_grain(vocab, 12), [&](Index begin, Index end) {
    for (Index r = begin; r < end; ++r) {
      double value = 0;
      if (options.counted.counts(r)) {
        ++counting;
        const T *s = student + r * vocab, *t = teacher + r * vocab;
        KlRow<T>& row = kept[r];
        row.student_top = k.max(s, vocab);
        row.teacher_top = k.max(t, vocab);
        masked += row.student_top == kMasked || row.teacher_top == kMasked;
        row.student_total = total(s, vocab, row.student_top, inverse);
        row.teacher_total = total(t, vocab, row.teacher_top, inverse);
        value = h * h * divergence(s, t, vocab, row, h, inverse);
      }
      losses[r] = blend(losses[r], value);
    }
  });
  fully_masked.count(masked);
  return counting;
}

template <class T>
void kl_backward(double dloss, const T* student, const T* teacher, const KlRow<T>* kept, Index rows, Index vocab,
                 const KlOptions& options, T* dstudent) {
  const auto& k = kernels::table<T>();
  const double h = options.temperature;
  const T inverse = static_cast<T>(1 / h);
  parallel_blocks(rows, row_grain(vocab, 6), [&](Index begin, Index end) {
    Panel<T> p, q;
    for (Index r = begin; r < end; ++r) {
      T* out = dstudent + r * vocab;
      if (!options.counted.counts(r)) {
        std::fill_n(out, vocab, T(0));
        continue;
      }
      const KlRow<T>& row = kept[r];
      const T pull = static_cast<T>(dloss * h / row.student_total),
              push = static_cast<T>(-dloss * h / row.teacher_total);
      each_panel(vocab, [&](Index first, Index n) {
        shifted(student + r * vocab + first, n, row.student_top, inverse, q.data());
        shifted(teacher + r * vocab + first, n, row.teacher_top, inverse, p.data());
        k.exp_sum(q.data(), n, T(0), q.data());
        k.exp_sum(p.data(), n, T(0), p.data());
        k.scale(q.data(), n, pull, q.data());  // each rounded by itself: of equal ones nothing is left
        k.scale(p.data(), n, push, p.data());
        k.add(q.data(), p.data(), n, out + first);
      });
    }
  });
}

#define LOOPOS_INSTANTIATE(T)                                                                                          \
  template Index kl_forward(const T*, const T*, Index, Index, const KlOptions&, const LossBlend&, double*, KlRow<T>*); \
  template void kl_backward(double, const T*, const T*, const KlRow<T>*, Index, Index, const KlOptions&, T*);
LOOPOS_INSTANTIATE(float)
LOOPOS_INSTANTIATE(double)

}  // namespace loopos
