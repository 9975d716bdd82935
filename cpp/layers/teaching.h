// What a pass learns beside its targets, or in their place.
#pragma once

#include <functional>

#include "layers/weight.h"
#include "ops/cross_entropy.h"
#include "ops/kl.h"
#include "ops/row_losses.h"

namespace loopos {

/// A teacher of the same tokens. The loss of a position whose target counts is cross_entropy times that of its target
/// plus weight times that of student and teacher: kl of their logits, or a loss of the rows that the final norms gave.
template <class T>
struct Teaching {
  const T* hidden = nullptr;        // (B, T, C of the teacher): what its final norm gave
  const Weight<T>* head = nullptr;  // of the teacher, for kl; null: the rows are compared, of as many channels
  Index width = 0;                  // C of the teacher
  const T* stream = nullptr;        // what flowed out of its first blocks, (streams, B, T, C), compared as `rows` says:
  Index streams = 0;                // so many of them, none where the final norms alone are compared,
  Index stride = 0;                 // each so many numbers behind the one before
  RowLoss rows = RowLoss::mse;
  double temperature = 1, weight = 1, cross_entropy = 0;

  bool needs_logits() const { return head || cross_entropy > 0; }
  LossBlend blend() const { return {weight, cross_entropy}; }
};

/// How the rows of a batch are scored, and what the gradients of their losses are multiplied by.
template <class T>
struct Scoring {
  CrossEntropyOptions options;
  const T* scale = nullptr;               // one for all rows,
  Index stride = 0;                       // or with stride 1 one for each row of the batch
  const Teaching<T>* teaching = nullptr;  // then the stride is 0

  double cross_entropy() const { return teaching ? teaching->cross_entropy : 1; }
};

/// A loss that is worked out elsewhere, once, between forward and backward of the whole batch.
template <class T>
struct Between {
  enum class Of { hidden, logits, losses };
  Of of = Of::hidden;
  T* values = nullptr;                // what it is a function of, to be filled: hidden (B, T, C) or logits (B, T, V)
  std::function<const T*()> compute;  // its gradient by them, or by the losses (B, T) of the positions
};

}  // namespace loopos
