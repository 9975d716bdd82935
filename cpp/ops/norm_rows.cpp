#include "ops/norm_rows.h"

#include <atomic>
#include <cmath>
#include <limits>

#include "core/buffer.h"
#include "core/thread_pool.h"
#include "kernels/isa/table.h"
#include "ops/column_sums.h"
#include "trace/guards.h"

namespace loopos {
namespace {

Guard layer_norm_below_eps("layer_norm_eps"), rms_norm_below_eps("rms_norm_eps");

using kernels::kNormRows;
using kernels::RowMean;
using Wide = long double;

/// False where the row kernels would leave the range of T (also for a row that is not finite).
template <class T>
bool in_range(double rstd) {
  return rstd >= static_cast<double>(std::numeric_limits<T>::min()) &&
         rstd <= static_cast<double>(std::numeric_limits<T>::max());
}

/// In two parts, as in the kernels.
template <class T>
RowMean<Wide> wide_mean(NormKind kind, const T* x, Index n) {
  if (kind == NormKind::rms) return {0, 0};
  Wide total = 0, rest = 0;
  for (Index i = 0; i < n; ++i) total += x[i];
  const Wide high = total / static_cast<Wide>(n);
  for (Index i = 0; i < n; ++i) rest += x[i] - high;
  return {high, rest / static_cast<Wide>(n)};
}

template <class T>
T wide_forward(const T* x, const T* weight, const T* bias, Index n, RowMean<Wide> mean, double eps, T* y) {
  const auto centred = [&](Index i) { return (x[i] - mean.high) - mean.low; };
  Wide squares = 0;
  for (Index i = 0; i < n; ++i) squares += centred(i) * centred(i);
  const Wide rstd = 1 / std::sqrt(squares / static_cast<Wide>(n) + static_cast<Wide>(eps));
  for (Index i = 0; i < n; ++i)
    y[i] = static_cast<T>(centred(i) * rstd * (weight ? weight[i] : Wide(1)) + (bias ? bias[i] : Wide(0)));
  return static_cast<T>(rstd);
}

template <class T>
void wide_backward(NormKind kind, const T* dy, const T* x, const T* weight, Wide rstd, Index n, const T* dskip, T* dx,
                   T* dweight, T* dbias) {
  const RowMean<Wide> mean = wide_mean(kind, x, n);
  const auto xhat = [&](Index i) { return ((x[i] - mean.high) - mean.low) * rstd; };
  const auto g = [&](Index i) { return dy[i] * (weight ? weight[i] : Wide(1)); };
  Wide sum_g = 0, sum_gx = 0;
  for (Index i = 0; i < n; ++i) {
    sum_g += g(i);
    sum_gx += g(i) * xhat(i);
  }
  const Wide mean_g = kind == NormKind::layer ? sum_g / static_cast<Wide>(n) : Wide(0),
             mean_gx = sum_gx / static_cast<Wide>(n);
  for (Index i = 0; i < n; ++i) {  // dx last: it may be dy
    if (dweight) dweight[i] += static_cast<T>(dy[i] * xhat(i));
    if (dbias) dbias[i] += dy[i];
    if (dx) dx[i] = static_cast<T>(rstd * (g(i) - mean_g - xhat(i) * mean_gx) + (dskip ? dskip[i] : Wide(0)));
  }
}

/// Rows that sum into one slot of the parameter gradients: few enough that float sums stay within a few ulp.
Index slot_rows(Index n) {
  return std::clamp<Index>(16384 / std::max<Index>(1, n), 16, 64);
}

}  // namespace

template <class T>
const T* norm_factors(const T* weight, Index n, bool unit_offset) {
  if (!unit_offset) return weight;
  struct Factors;
  T* factors = scratch<T, Factors>(n);
  for (Index i = 0; i < n; ++i) factors[i] = T(1) + weight[i];
  return factors;
}

template <class T>
void norm_forward(NormKind kind, const T* x, const T* weight, const T* bias, Index rows, Index n, double eps, T* y,
                  T* mean, T* rstd, RowPlaces of_x, RowPlaces of_y) {
  const Index together = of_x.stride ? 1 : kNormRows;  // rows whose statistics are taken at once
  const auto& k = kernels::table<T>();
  std::atomic<Index> below_eps{0};
  parallel_blocks(rows, row_grain(n, 3), [&](Index begin, Index end) {
    Index floored = 0;
    RowMean<T> means[kNormRows]{};
    double squares[kNormRows];
    for (Index r = begin, i = 0; r < end; ++r, i = i + 1 < together ? i + 1 : 0) {
      const T* row = x + of_x.at(r, n);
      T* out = y + of_y.at(r, n);
      if (kind == NormKind::rms)
        squares[i] = k.sum_squares(row, n);
      else if (i == 0)
        k.norm_stats(row, std::min<Index>(together, end - r), n, means, squares);
      const double spread = squares[i] / static_cast<double>(n), variance = spread + eps,
                   inverse = 1 / std::sqrt(variance);
      floored += spread < eps;
      T saved_mean = means[i].high + means[i].low, saved = static_cast<T>(inverse);
      if (std::isfinite(squares[i]) && variance > 1e-250 && in_range<T>(inverse)) {
        k.norm_apply(row, weight, bias, n, means[i], saved, out);
      } else {
        const RowMean<Wide> exact = wide_mean(kind, row, n);
        saved_mean = static_cast<T>(exact.high + exact.low);
        saved = wide_forward(row, weight, bias, n, exact, eps, out);
      }
      if (mean) mean[r] = saved_mean;
      if (rstd) rstd[r] = saved;
    }
    if (floored > 0) below_eps += floored;
  });
  (kind == NormKind::rms ? rms_norm_below_eps : layer_norm_below_eps).count(below_eps);
}

Index norm_slots(Index rows, Index sequence, Index n) {
  if (rows == 0) return 0;
  const Index block = slot_rows(n);
  return rows / sequence * ((sequence + block - 1) / block) + (rows % sequence + block - 1) / block;
}

template <class T>
void norm_backward_rows(NormKind kind, const T* dy, const T* x, const T* weight, const T* rstd, const T* dskip,
                        Index rows, Index sequence, Index n, T* dx, T* dweight, T* dbias, Index stride, RowPlaces of_dy,
                        RowPlaces of_x) {
  const Index together = of_x.stride ? 1 : kNormRows;
  const auto& k = kernels::table<T>();
  const Index block = slot_rows(n);
  parallel_for(norm_slots(rows, sequence, n), [&](Index slot) {
    T* dw = dweight ? dweight + slot * stride : nullptr;
    T* db = dbias ? dbias + slot * stride : nullptr;
    if (dw) std::fill(dw, dw + n, T(0));
    if (db) std::fill(db, db + n, T(0));
    const Index per_sequence = (sequence + block - 1) / block, start = slot / per_sequence * sequence,
                begin = start + slot % per_sequence * block, end = std::min({rows, start + sequence, begin + block});
    RowMean<T> means[kNormRows]{};
    for (Index r = begin, i = 0; r < end; ++r, i = i + 1 < together ? i + 1 : 0) {
      const Index at = of_dy.at(r, n);
      const T* row = x + of_x.at(r, n);
      if (kind == NormKind::layer && i == 0) k.norm_means(row, std::min<Index>(together, end - r), n, means);
      double sum_g, sum_gx;
      k.norm_grad_sums(dy + at, row, weight, n, means[i], &sum_g, &sum_gx);
      const double scale = static_cast<double>(rstd[r]), count = static_cast<double>(n);
      const T mean_g = kind == NormKind::layer ? static_cast<T>(sum_g / count) : T(0),
              mean_gx = static_cast<T>(sum_gx * scale / count);
      T* out = dx ? dx + at : nullptr;
      const T* skip = dskip ? dskip + at : nullptr;
      if (std::isfinite(sum_g) && std::isfinite(sum_gx) && std::isfinite(mean_g) && std::isfinite(mean_gx) &&
          in_range<T>(scale))
        k.norm_grad_apply(dy + at, row, weight, n, {means[i], rstd[r], mean_g, mean_gx}, skip, out, dw, db);
      else
        wide_backward(kind, dy + at, row, weight, static_cast<Wide>(rstd[r]), n, skip, out, dw, db);
    }
  });
}

template <class T>
void norm_backward(NormKind kind, const T* dy, const T* x, const T* weight, const T* rstd, const T* dskip, Index rows,
                   Index n, T* dx, T* dweight, T* dbias) {
  struct Slots;
  const Index slots = norm_slots(rows, rows, n);
  T* memory = scratch<T, Slots>(2 * slots * n);
  norm_backward_rows(kind, dy, x, weight, rstd, dskip, rows, rows, n, dx, dweight ? memory : nullptr,
                     dbias ? memory + n : nullptr, 2 * n);
  if (dweight) add_column_sums(memory, slots, n, 2 * n, dweight);
  if (dbias) add_column_sums(memory + n, slots, n, 2 * n, dbias);
}

#define LOOPOS_INSTANTIATE(T)                                                                                       \
  template const T* norm_factors(const T*, Index, bool);                                                            \
  template void norm_forward(NormKind, const T*, const T*, const T*, Index, Index, double, T*, T*, T*, RowPlaces,   \
                             RowPlaces);                                                                            \
  template void norm_backward_rows(NormKind, const T*, const T*, const T*, const T*, const T*, Index, Index, Index, \
                                   T*, T*, T*, Index, RowPlaces, RowPlaces);                                        \
  template void norm_backward(NormKind, const T*, const T*, const T*, const T*, const T*, Index, Index, T*, T*, T*);
LOOPOS_INSTANTIATE(float)
LOOPOS_INSTANTIATE(double)

}  // namespace loopos
