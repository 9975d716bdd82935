// Tracing: what every tensor of a pass holds, in the order of execution, up to the first number that is not finite; and
// planting: a fault written into a tensor on the way, to test what notices it. A step that went bad is repeated with a
// probe that looks. A pass without a probe pays one pointer test for each tensor.
#pragma once

#include <cfenv>
#include <cmath>
#include <deque>
#include <functional>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/thread_pool.h"
#include "trace/operands.h"

namespace loopos {

struct Birth {
  bool found = false;
  std::string phase, op, tensor;
  Index layer = -1;  // -1: outside blocks
  std::vector<Index> index;
  double value = 0;
  std::vector<std::pair<const char*, std::vector<double>>> vectors;
  std::vector<std::pair<const char*, double>> numbers;
};

/// One tensor: of its finite elements the smallest, largest and root mean square; how many are zero, and not finite;
/// and the floating-point flags raised since the tensor before.
struct Frame {
  std::string phase, op, tensor;
  Index layer = -1;
  Extents shape;
  double min = std::numeric_limits<double>::infinity(), max = -min;
  long double squares = 0;
  Index seen = 0, zeros = 0, nonfinite = 0, first_bad = -1;
  int flags = 0;
  Index eps_rows = -1;  // of a norm: rows whose variance is below its eps

  void merge(const Frame& next);
};

/// A fault: `value` in one element, or in all, of the tensor of this name.
struct Plant {
  std::string phase, op, tensor;  // op empty: any
  std::vector<Index> index;       // empty: every element
  double value = 0;
  bool flagged = true;  // raises the floating-point flag that such a value is born with
  Index fired = 0;
};

/// Called with every tensor that is described, or with the next piece of one: `count` of its elements from `first` on,
/// which are float or double (losses are double in every model).
using Tap = std::function<void(const Frame&, const void* elements, bool is_double, Index first, Index count)>;

class Probe {
 public:
  /// looks: whether tensors are described and a birth is sought. frames: how many to keep, the last ones.
  Probe(std::vector<Plant*> plants, bool looks, std::size_t frames, Tap tap = {})
      : plants_(std::move(plants)), looks_(looks), most_(frames), tap_(std::move(tap)) {}

  /// x is a tensor of this shape, or elements `first` to `first` + `count` of one. A plant that is meant for it acts
  /// (not on a const x); then it is described, unless a birth was found already. take(operands) is called for the
  /// first element that is not finite.
  template <class T, class Take = NoOperands>
  void see(const char* phase, Index layer, const char* op, const std::string& tensor, T* x, const Extents& shape,
           const Take& take = {}, Index first = 0, Index count = -1) {
    if (count < 0) count = shape.size();
    if constexpr (!std::is_const_v<T>)
      for (Plant* p : plants_) plant(*p, phase, op, tensor, x, shape, first, count);
    if (!looking()) return;
    Frame frame = described(x, first, count);
    frame.phase = phase;
    frame.op = op;
    frame.tensor = tensor;
    frame.layer = layer;
    frame.shape = shape;
    if (tap_) tap_(frame, x, sizeof(T) == sizeof(double), first, count);
    FpScope::fresh();  // whatever describing raised is not the operation's
    const Index bad = frame.first_bad;
    keep(std::move(frame));
    if (bad < 0) return;
    Operands operands(shape, bad);
    take(operands);
    const auto begin = operands.index.n.begin();
    birth_ = {true,
              phase,
              op,
              tensor,
              layer,
              {begin, begin + static_cast<std::ptrdiff_t>(shape.rank)},
              static_cast<double>(x[bad - first]),
              std::move(operands.vectors),
              std::move(operands.numbers)};
  }

  /// Of the norm that was shown last.
  void count_eps_rows(Index rows) {
    if (looking() && !frames_.empty()) frames_.back().eps_rows = rows;
  }
  bool looking() const { return looks_ && !birth_.found; }
  bool plants() const { return !plants_.empty(); }
  const Birth& birth() const { return birth_; }
  std::deque<Frame>& frames() { return frames_; }

 private:
  template <class T>
  static void plant(Plant& p, const char* phase, const char* op, const std::string& tensor, T* x, const Extents& shape,
                    Index first, Index count) {
    if (p.tensor != tensor || p.phase != phase || !(p.op.empty() || p.op == op)) return;
    Index begin = first, end = first + count;
    if (!p.index.empty()) {
      if (p.index.size() != shape.rank) return;
      Index flat = 0;
      for (std::size_t axis = 0; axis < shape.rank; ++axis) {
        if (p.index[axis] < 0 || p.index[axis] >= shape.n[axis]) return;
        flat = flat * shape.n[axis] + p.index[axis];
      }
      if (flat < begin || flat >= end) return;
      begin = flat;
      end = flat + 1;
    }
    for (Index i = begin; i < end; ++i) x[i - first] = static_cast<T>(p.value);
    if (p.flagged && !std::isfinite(p.value)) std::feraiseexcept(std::isnan(p.value) ? FE_INVALID : FE_OVERFLOW);
    ++p.fired;
  }

  /// Chunks are fixed by the size and merged in order: the same numbers on any number of threads.
  template <class T>
  static Frame described(const T* x, Index first, Index count) {
    const int flags = FpScope::fresh();
    constexpr Index kChunk = 1 << 16;
    std::vector<Frame> parts(static_cast<std::size_t>((count + kChunk - 1) / kChunk));
    parallel_blocks(count, kChunk, [&](Index begin, Index end) {
      Frame& part = parts[static_cast<std::size_t>(begin / kChunk)];
      using Wide = std::conditional_t<std::is_same_v<std::remove_const_t<T>, float>, double, long double>;
      Wide squares = 0;
      for (Index i = begin; i < end; ++i) {
        if (!std::isfinite(x[i])) {
          if (part.nonfinite++ == 0) part.first_bad = first + i;
          continue;
        }
        const double value = static_cast<double>(x[i]);
        part.min = std::min(part.min, value);
        part.max = std::max(part.max, value);
        part.zeros += value == 0;
        squares += static_cast<Wide>(value) * static_cast<Wide>(value);
      }
      part.squares = squares;
      part.seen = end - begin;
    });
    Frame whole;
    for (const Frame& part : parts) whole.merge(part);
    whole.flags = flags;
    return whole;
  }

  void keep(Frame frame);

  std::vector<Plant*> plants_;
  bool looks_;
  std::size_t most_;
  Tap tap_;
  Birth birth_;
  std::deque<Frame> frames_;
};

}  // namespace loopos
