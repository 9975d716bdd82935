// Tracing: the first tensor that is not finite, in the order of execution. A step that went bad is run again with a
// probe attached.
#pragma once

#include <string>
#include <vector>

#include "core/check.h"

namespace loopos {

struct Birth {
  bool found = false;
  std::string phase, op, tensor;
  Index layer = -1;  // -1: outside blocks
  std::vector<Index> index;
  double value = 0;
};

class Probe {
 public:
  /// Looks at x of this shape unless a birth was found already.
  template <class T>
  void see(const char* phase, Index layer, const char* op, const std::string& tensor, const T* x,
           const std::vector<Index>& shape) {
    if (birth_.found) return;
    Index size = 1;
    for (Index n : shape) size *= n;
    for (Index i = 0; i < size; ++i) {
      if (x[i] - x[i] == T(0)) continue;
      birth_ = {true, phase, op, tensor, layer, {}, static_cast<double>(x[i])};
      birth_.index.resize(shape.size());
      for (std::size_t axis = shape.size(); axis-- > 0; i /= shape[axis]) birth_.index[axis] = i % shape[axis];
      return;
    }
  }
  /// Looks at one row of a larger tensor whose leading indices are given; a row of one element adds no index of its
  /// own.
  template <class T>
  void see_row(const char* phase, const char* op, const char* tensor, const T* row, Index n,
               std::vector<Index> leading) {
    if (birth_.found) return;
    see(phase, Index{-1}, op, tensor, row, n == 1 ? std::vector<Index>{} : std::vector<Index>{n});
    if (birth_.found) birth_.index.insert(birth_.index.begin(), leading.begin(), leading.end());
  }
  const Birth& birth() const { return birth_; }

 private:
  Birth birth_;
};

}  // namespace loopos
