#include "linalg/trace_normalize.h"

#include <algorithm>
#include <cmath>

#include "kernels/isa/table.h"
#include "linalg/diagonal.h"
#include "linalg/load.h"
#include "trace/guards.h"

namespace loopos {
namespace {

Guard floors("trace_normalize_floor");

struct Normalization {
  double trace, factor;
  bool floored;
};

template <class T>
Normalization normalization(const Complex<T>* r, Index n, const TraceRule& rule) {
  scale_of("r", r, n, n);  // it refuses what is not finite
  const double trace = trace_of(r, n);
  require_matrix(std::isfinite(trace), "the trace of r is beyond the range of double; scale the input");
  const bool floored = !(trace >= rule.floor);
  const double divisor = floored ? rule.floor : trace, factor = rule.target / divisor;
  if (divisor > 0 && std::isfinite(factor) && factor <= rule.max_amplification) return {trace, factor, floored};
  const char* why = "see why the trace is so small (an indefinite matrix, snapshots that are nearly 0)";
  if (divisor == 0)
    throw AmplificationRefused(cat("the trace of r is ", trace, " and the floor 0: no factor brings it to ",
                                   rule.target, "; pass a floor above 0, or ", why),
                               trace, rule.floor, factor);
  throw AmplificationRefused(cat("the trace of r is ", trace, floored ? ", below the floor " : " (floor ", rule.floor,
                                 floored ? "" : ")", ": to bring it to ", rule.target, " takes a factor of ", factor,
                                 std::isfinite(factor) ? cat(", above max_amplification = ", rule.max_amplification)
                                                       : ", beyond the range of double",
                                 "; ", why),
                             trace, rule.floor, factor);
}

template <class T>
void scale(const T* x, Index n, double factor, T* y) {
  const T direct = static_cast<T>(factor);
  if (std::isnormal(direct) || factor == 0) return kernels::table<T>().scale(x, n, direct, y);
  for (Index i = 0; i < n; ++i) y[i] = static_cast<T>(static_cast<double>(x[i]) * factor);
}

}  // namespace

template <class T>
void trace_normalize_forward(const Complex<T>* r, Index batch, Index n, const TraceRule& rule, Complex<T>* y,
                             double* trace, double* factor, bool* floored) {
  each_matrix(batch, n * n, [&](Index b) {
    const Normalization by = normalization(r + b * n * n, n, rule);
    trace[b] = by.trace;
    factor[b] = by.factor;
    floored[b] = by.floored;
    scale(reals(r + b * n * n), 2 * n * n, by.factor, reals(y + b * n * n));
  });
  floors.count(std::count(floored, floored + batch, true));
}

template <class T>
void trace_normalize_backward(const Complex<T>* dy, const Complex<T>* r, Index batch, Index n, const TraceRule& rule,
                              Complex<T>* dr) {
  each_matrix(batch, n * n, [&](Index b) {
    const Normalization by = normalization(r + b * n * n, n, rule);
    Complex<T>* out = dr + b * n * n;
    scale(reals(dy + b * n * n), 2 * n * n, by.factor, reals(out));
    if (by.floored) return;
    const double along = kernels::table<T>().dot(reals(dy + b * n * n), reals(r + b * n * n), 2 * n * n);
    const double from_trace = by.factor * (along / by.trace);
    for (Index i = 0; i < n; ++i) out[i * (n + 1)] -= static_cast<T>(from_trace);
  });
}

#define LOOPOS_INSTANTIATE(T)                                                                                    \
  template void trace_normalize_forward(const Complex<T>*, Index, Index, const TraceRule&, Complex<T>*, double*, \
                                        double*, bool*);                                                         \
  template void trace_normalize_backward(const Complex<T>*, const Complex<T>*, Index, Index, const TraceRule&,   \
                                         Complex<T>*);
LOOPOS_INSTANTIATE(float)
LOOPOS_INSTANTIATE(double)

}  // namespace loopos
