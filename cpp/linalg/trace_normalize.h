// Matrices scaled to a trace: y = c r, c = target / max(t, floor), t the real part of the trace of r, in double.
//   dr = c dy - (target / t^2) (the real part of sum conj(dy) r) I, without the second term where the floor decides
// A floor that decides is counted (guard "trace_normalize_floor") and told, for then the trace of y is not the target: it may
// even be negative. A factor above max_amplification is refused: a matrix with next to no trace, or an indefinite one,
// would be blown up to numbers that say nothing (a factor of 1e11 has made a loss of 1e25).
#pragma once

#include "linalg/matrix.h"

namespace loopos {

struct TraceRule {
  double target, floor, max_amplification;
};

/// r, y (batch, n, n); trace (batch) t, factor (batch) c, floored (batch) whether the floor decided. MatrixError where r or
/// its trace is not finite; AmplificationRefused naming trace, floor and factor.
template <class T>
void trace_normalize_forward(const Complex<T>* r, Index batch, Index n, const TraceRule& rule, Complex<T>* y,
                             double* trace, double* factor, bool* floored);

template <class T>
void trace_normalize_backward(const Complex<T>* dy, const Complex<T>* r, Index batch, Index n, const TraceRule& rule,
                              Complex<T>* dr);

}  // namespace loopos
