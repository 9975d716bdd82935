// What one element of a tensor was made of: the numbers that its operation read. Each op says it in a function
// X_operands beside its forward and backward; a trace calls it for the first element that is not finite.
#pragma once

#include <algorithm>
#include <array>
#include <initializer_list>
#include <utility>
#include <vector>

#include "core/check.h"

namespace loopos {

/// A shape or an index of up to four axes, without a memory allocation.
struct Extents {
  std::array<Index, 4> n{};
  std::size_t rank = 0;

  Extents() = default;
  Extents(std::initializer_list<Index> list) : rank(list.size()) { std::copy(list.begin(), list.end(), n.begin()); }
  Extents(const std::vector<Index>& list) : rank(list.size()) { std::copy(list.begin(), list.end(), n.begin()); }
  Index size() const {
    Index product = 1;
    for (std::size_t axis = 0; axis < rank; ++axis) product *= n[axis];
    return product;
  }
  Index last() const { return n[rank - 1]; }
  Extents place(Index flat) const {
    Extents index = *this;
    for (std::size_t axis = rank; axis-- > 0; flat /= n[axis]) index.n[axis] = flat % n[axis];
    return index;
  }
};

/// The numbers, by name, of the element at `index` of a tensor.
class Operands {
 public:
  Operands(const Extents& shape, Index flat) : index(shape.place(flat)), flat_(flat), width_(shape.last()) {}

  const Extents index;
  Index row() const { return flat_ / width_; }  // all axes but the last as one
  Index column() const { return flat_ % width_; }
  /// n numbers, `stride` apart; nothing for a null pointer.
  template <class T>
  void take(const char* name, const T* x, Index n, Index stride = 1) {
    if (!x) return;
    std::vector<double> values(static_cast<std::size_t>(n));
    for (Index i = 0; i < n; ++i) values[static_cast<std::size_t>(i)] = static_cast<double>(x[i * stride]);
    vectors.emplace_back(name, std::move(values));
  }
  /// All of them; none, too, is an answer.
  template <class T>
  void take(const char* name, const std::vector<T>& terms) {
    vectors.emplace_back(name, std::vector<double>(terms.begin(), terms.end()));
  }
  void set(const char* name, double value) { numbers.emplace_back(name, value); }
  void set(const char* name, Index value) { set(name, static_cast<double>(value)); }

  std::vector<std::pair<const char*, std::vector<double>>> vectors;
  std::vector<std::pair<const char*, double>> numbers;  // sizes and attributes

 private:
  Index flat_, width_;
};

struct NoOperands {
  void operator()(Operands&) const {}
};

}  // namespace loopos
