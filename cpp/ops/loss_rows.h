// What losses of rows have in common: which rows count, and what is done with the losses that are there already.
#pragma once

#include "core/check.h"

namespace loopos {

/// A row whose target is ignore_index counts for nothing. No targets: every row counts.
struct CountedRows {
  const Index* targets = nullptr;
  Index ignore_index = -100;

  bool counts(Index row) const { return !targets || targets[row] != ignore_index; }
};

/// losses = before * losses + weight * loss; with before 0 what was there is overwritten.
struct LossBlend {
  double weight = 1, before = 0;

  double operator()(double there, double loss) const { return (before == 0 ? 0 : before * there) + weight * loss; }
};

}  // namespace loopos
