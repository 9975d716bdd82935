// Dropout: y = x m with m = 1/(1-p) for a kept element and 0 for a dropped one (N. Srivastava and others, JMLR 15,
// 2014; the inverted form). Element i is kept when word (offset + i) mod 4 of philox(seed, (offset + i) / 4, 0) is at
// least p 2^32: the mask is a function of (seed, offset + i) alone. Backward recomputes it; nothing is saved. It is a
// product: a NaN or inf in a dropped place gives NaN, it is not hidden. p in [0, 1).
#pragma once

#include "core/check.h"

namespace loopos {

/// scales[i] = 0 or 1/(1-p) for element offset + i. Runs on the calling thread.
template <class T>
void dropout_scales(std::uint64_t seed, std::uint64_t offset, Index n, double p, T* scales);

/// x, y (n); y may be x.
template <class T>
void dropout_forward(const T* x, Index n, double p, std::uint64_t seed, std::uint64_t offset, T* y);

/// dx = dy m. dy, dx (n); dx may be dy.
template <class T>
void dropout_backward(const T* dy, Index n, double p, std::uint64_t seed, std::uint64_t offset, T* dx);

}  // namespace loopos
