#include "trace/probe.h"

namespace loopos {

void Frame::merge(const Frame& next) {
  min = std::min(min, next.min);
  max = std::max(max, next.max);
  squares += next.squares;
  seen += next.seen;
  zeros += next.zeros;
  nonfinite += next.nonfinite;
  if (first_bad < 0) first_bad = next.first_bad;
  flags |= next.flags;
}

/// A tensor that comes in pieces is one frame.
void Probe::keep(Frame frame) {
  if (!frames_.empty() && frames_.back().seen < frames_.back().shape.size() && frames_.back().tensor == frame.tensor &&
      frames_.back().phase == frame.phase && frames_.back().op == frame.op) {
    frames_.back().merge(frame);
    return;
  }
  frames_.push_back(std::move(frame));
  if (frames_.size() > most_) frames_.pop_front();
}

}  // namespace loopos
