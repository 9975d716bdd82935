// The linear layer with a weight (out, in) that is frozen and stored small.
//   y = x W^T + bias [+ residual],  dx = dy W
// W is what load_stored gives, and the arithmetic is that of linear.h on it, to the same bits: stored numbers are
// turned into floats while a product packs them, or, where x has a few rows, in the registers. It has no gradient.
#pragma once

#include <optional>

#include "core/precision.h"
#include "core/stored_weight.h"
#include "trace/operands.h"

namespace loopos {

/// Takes its memory, filled with zeros or, with a seed, with initial values.
void allocate_stored(StoredWeight& weight, std::optional<std::uint64_t> seed = {});
/// Stores rows [first, first + rows) and adds their error to the weight's, which begins anew with row 0. Returns the flat
/// place in `from` of a number that cannot be stored (NaN, infinite, beyond the range), or -1.
Index store_rows(StoredWeight& weight, const float* from, Index first, Index rows);
/// The numbers that products compute with, (rows, in): of rows [first, first + rows); and of rows ids[0], ids[1], ...,
/// each times scale.
void load_stored(const StoredWeight& weight, Index first, Index rows, float* to);
void look_up_stored(const Index* ids, const StoredWeight& weight, Index rows, double scale, float* y);

/// bias and residual may be null. y must not be residual.
void stored_linear_forward(const float* x, const StoredWeight& weight, const float* bias, Index rows, float* y,
                           const float* residual = nullptr, Precision precision = Precision::float32);
/// Overwrites dx.
void stored_linear_backward(const float* dy, const StoredWeight& weight, Index rows, float* dx,
                            Precision precision = Precision::float32);

/// What made an element of y of look_up_stored.
void look_up_stored_operands(Operands& o, const Index* ids, const StoredWeight& weight, double scale);
/// What made an element of y, and of dx. dy begins at row `first`.
void stored_linear_operands(Operands& o, const float* x, const StoredWeight& weight, const float* bias);
void stored_linear_backward_operands(Operands& o, const float* dy, const StoredWeight& weight, Index first = 0);

}  // namespace loopos
