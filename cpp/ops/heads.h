// Where a head's rows lie: element (b, h, t, d) is at b batch + h head + t time + d. So heads are read in place from a
// fused projection.
#pragma once

#include "core/check.h"

namespace loopos {

struct HeadStrides {
  Index batch, head, time;
};

/// (B, H, T, D) contiguous.
inline HeadStrides contiguous_heads(Index heads, Index time, Index width) {
  return {heads * time * width, time * width, width};
}

}  // namespace loopos
