// The Euclidean norm over all numbers of several arrays, and clipping by it (Pascanu, Mikolov, Bengio 2013).
//   norm = sqrt(sum x^2);  x *= max_norm / norm where norm > max_norm
// Squares are summed in double over fixed blocks, added in order. A float's square always fits; where a double's does
// not (1e300, 1e-300) the sum is recomputed with everything divided by a power of two. Clipping multiplies in double,
// because max_norm / norm may be too small for a normal float. These have no backward: they end the backward pass.
#pragma once

#include "core/check.h"

namespace loopos {

constexpr Index kNormBlock = 8192;  // numbers whose squares are one partial sum

template <class T>
struct Span {
  const T* data;
  Index size;
};

/// norm = mantissa 2^exponent: finite for every finite input, also where the norm itself exceeds the range of double.
struct ScaledNorm {
  double mantissa;
  int exponent;
  double value() const;
};

template <class T>
ScaledNorm scaled_norm(const Span<T>* arrays, Index count);

/// NaN if any number is NaN, inf if any is infinite; 0.0 for nothing at all.
template <class T>
double global_norm(const Span<T>* arrays, Index count);

/// The sums of squares that the norm of one array of `size` numbers adds, in their order: of its blocks of kNormBlock
/// numbers from `first` up to `last`, which is not one of them.
template <class T>
void square_sums(const T* x, Index size, Index first, Index last, double* sums);

/// y = x max_norm / norm, in place allowed.
template <class T>
void scale_to_norm(const T* x, Index n, double max_norm, ScaledNorm norm, T* y);

}  // namespace loopos
