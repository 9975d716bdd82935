// What layer norm and rms norm share: rms norm is layer norm with the mean held at zero.
//   y = (x - mean) rstd weight + bias,  rstd = 1 / sqrt(mean of (x - mean)^2 + eps)
//   with g = dy weight and xhat = (x - mean) rstd:
//     dx = rstd (g - [mean g] - xhat mean(g xhat)) + dskip      ([..] is absent in rms norm)
//     dweight += sum dy xhat
//     dbias += sum dy
// Stability: two passes with sums in double. The mean is kept in two parts up to the subtraction, in backward too
// (which recomputes it from x: the saved mean is rounded). So forward and backward subtract the same mean, and
// equal numbers leave exactly zero, however large they are. A row whose deviations or rstd leave the range of T is
// recomputed in long double: every finite row gives the right finite result. xhat is never recovered by dividing by the
// weight, which may be zero.
#pragma once

#include "core/check.h"
#include "trace/operands.h"

namespace loopos {

enum class NormKind { layer, rms };

/// A model's norm by its name in a configuration, and its op's name in reports.
struct NormChoice {
  const char* name;
  NormKind kind;
  const char* op;
};
constexpr NormChoice kNorms[] = {{"layernorm", NormKind::layer, "layer_norm"}, {"rmsnorm", NormKind::rms, "rms_norm"}};

/// Where rows lie: `group` of them side by side, the next group `stride` numbers further on; stride 0: all of them side
/// by side. So the heads of a fused projection are rows.
struct RowPlaces {
  Index group = 1, stride = 0;
  Index at(Index row, Index n) const { return stride ? row / group * stride + row % group * n : row * n; }
};

/// What a norm multiplies by: its weight, or 1 + weight, in scratch of the calling thread that its next call overwrites.
template <class T>
const T* norm_factors(const T* weight, Index n, bool unit_offset);

/// x, y (rows, n); weight, bias (n) may be null; mean, rstd (rows), mean null for rms.
template <class T>
void norm_forward(NormKind kind, const T* x, const T* weight, const T* bias, Index rows, Index n, double eps, T* y,
                  T* mean, T* rstd, RowPlaces of_x = {}, RowPlaces of_y = {});

/// Adds into dweight and dbias; a null output skips its work.
template <class T>
void norm_backward(NormKind kind, const T* dy, const T* x, const T* weight, const T* rstd, const T* dskip, Index rows,
                   Index n, T* dx, T* dweight, T* dbias);

/// The same for a part of the rows, without the sums over all: each block of rows, which never crosses a multiple of
/// `sequence`, overwrites a slot of its own in dweight and dbias (null: skipped), `stride` apart; norm_slots tells how
/// many there are. Their column sums are the gradients. dy, dskip and dx lie alike; dx may be dy, or dskip.
Index norm_slots(Index rows, Index sequence, Index n);
template <class T>
void norm_backward_rows(NormKind kind, const T* dy, const T* x, const T* weight, const T* rstd, const T* dskip,
                        Index rows, Index sequence, Index n, T* dx, T* dweight, T* dbias, Index stride,
                        RowPlaces of_dy = {}, RowPlaces of_x = {});

/// What a norm knows of its rows, as given to and left by norm_forward.
template <class T>
struct NormRows {
  const T *x, *weight, *bias, *mean, *rstd;  // weight: what it multiplies by; bias and mean may be null
  Index n;
  double eps;
  RowPlaces of_x{};

  void take_row(Operands& o, Index row, Index channel) const {
    o.set("eps", eps);
    o.set("channel", channel);
    o.take("x", x + of_x.at(row, n), n);
    o.take("mean", mean ? mean + row : nullptr, 1);
    o.take("rstd", rstd + row, 1);
  }
};

/// What made an element of y, number `channel` of a row.
template <class T>
void norm_operands(Operands& o, const NormRows<T>& norm, Index row, Index channel) {
  norm.take_row(o, row, channel);
  o.take("weight", norm.weight + channel, 1);
  if (norm.bias) o.take("bias", norm.bias + channel, 1);
}
/// Of dx. dy: its row; dskip: what was added, may be null.
template <class T>
void norm_backward_operands(Operands& o, const NormRows<T>& norm, Index row, Index channel, const T* dy,
                            const T* dskip) {
  norm.take_row(o, row, channel);
  o.take("dy", dy, norm.n);
  o.take("weight", norm.weight, norm.n);
  o.take("dskip", dskip, 1);
}
/// Of dweight.
template <class T>
void norm_weight_gradient_operands(Operands& o, const NormRows<T>& norm, const T* dy, Index rows,
                                   RowPlaces of_dy = {}) {
  const auto column = [&](const T* from, RowPlaces places) {
    std::vector<T> numbers;
    for (Index r = 0; r < rows; ++r) numbers.push_back(from[places.at(r, norm.n) + o.column()]);
    return numbers;
  };
  o.take("dy", column(dy, of_dy));
  o.take("x", column(norm.x, norm.of_x));
  o.take("mean", norm.mean, norm.mean ? rows : 0);
  o.take("rstd", norm.rstd, rows);
}

/// Rows in which eps outweighs the variance and so sets the scale.
template <class T>
Index rows_below_eps(const T* rstd, Index rows, double eps) {
  Index below = 0;
  for (Index r = 0; r < rows; ++r) {
    const double scale = static_cast<double>(rstd[r]);
    below += 1 / (scale * scale) < 2 * eps;
  }
  return below;
}

}  // namespace loopos
