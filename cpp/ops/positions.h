// Where the tokens of a batch stand, each in its own document: 0, 1, 2, ... from the document's first token on.
#pragma once

#include "core/check.h"

namespace loopos {

/// Token t of sequence b stands at data[b sequence + t] - origin. sequence 0: every sequence has the same positions.
struct Positions {
  const Index* data = nullptr;
  Index sequence = 0;
  Index origin = 0;

  Index of(Index b, Index t) const { return data[b * sequence + t] - origin; }
  /// How many numbers that are, for this many sequences of `time` tokens.
  Index count(Index batch, Index time) const { return sequence == 0 ? time : (batch - 1) * sequence + time; }
};

}  // namespace loopos
