// The interface of an update rule. A rule knows the formula; optimizer.h knows tensors, threads and all or nothing. A
// rule has hyper-parameters and no state: what it keeps between steps are moments, which the optimizer holds.
//   update  writes the new weights and moments of one piece of a tensor
//   bound   proves, from the largest magnitudes that go in, that no result can leave the range of T
// A new rule is a header in rules/ and a row in rules.cpp.
#pragma once

#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "core/check.h"
#include "kernels/isa/table.h"

namespace loopos {

constexpr std::size_t kMostMoments = 2;

/// What a step tells a rule about a tensor. The gradient is to be multiplied by scale (the clip factor) first. count:
/// updates done before this one.
struct UpdateStep {
  double lr, scale, weight_decay;
  Index count;
};

/// What a rule keeps of each element between steps. They begin at zero.
struct Moment {
  std::string name;
  bool negative;  // whether it may be below zero; a sum of squares may not
};

/// What one call of a rule updates: a run of elements, or for a rule of whole matrices a tensor (rows, columns).
template <class T>
struct Piece {
  Index rows, columns, size;
  const T* grad;
  T* weight;
  std::array<T*, kMostMoments> moments;  // in the order of Rule::moments()
  T* scratch;                            // Rule::scratch() numbers, of a rule of whole matrices
};

/// Bounds: no magnitude among the tensors of a rule is larger. grad: before scale.
struct Magnitudes {
  double grad, weight;
  std::array<double, kMostMoments> moments;
};

/// The numbers that made a result, by name, for an error to tell.
using Operands = std::vector<std::pair<std::string, double>>;

template <class T>
class Rule {
 public:
  virtual ~Rule() = default;

  virtual std::vector<Moment> moments() const = 0;

  /// Called once for each tensor that the rule is to update; ValueError when it cannot.
  virtual void adopt(const std::string& name, const std::vector<Index>& shape) {
    static_cast<void>(name);
    static_cast<void>(shape);
  }

  /// Whether a piece is a whole matrix. Then pieces come one after the other and the rule may use the thread pool; else
  /// they are chunks, each on one thread.
  virtual bool whole_matrices() const { return false; }
  /// Numbers of scratch for any tensor adopted.
  virtual Index scratch() const { return 0; }

  /// lr 0 changes no bit of a weight. Returns the largest |weight| that it left, where all of them are finite; NaN: the
  /// rule does not look.
  virtual double update(const UpdateStep& step, const Piece<T>& piece) const = 0;

  /// True: no intermediate and no result of an update can reach limit(), whatever the numbers within these bounds. With
  /// step.weight_decay the largest of all tensors. Moves the bounds of the moments on by one step.
  virtual bool bound(const UpdateStep& step, Magnitudes& m) const = 0;

  /// Adds what is the rule's own among the numbers that made element `at` of a piece after update().
  virtual void operands(const UpdateStep& step, const Piece<T>& piece, Index at, Operands& list) const {
    static_cast<void>(step);
    static_cast<void>(piece);
    static_cast<void>(at);
    static_cast<void>(list);
  }

 protected:
  static constexpr double kNotSeen = std::numeric_limits<double>::quiet_NaN();
  static constexpr double kSlack = 1 + 1e-5;  // a little more than rounding can add
  static constexpr double limit() { return static_cast<double>(std::numeric_limits<T>::max()) / 16; }

  /// Whether all are below the limit; a NaN is not.
  static bool below_limit(std::initializer_list<double> magnitudes) {
    for (double m : magnitudes)
      if (!(m < limit())) return false;
    return true;
  }

  /// The gradient times the clip factor, `size` <= kBlock numbers: the gradient itself, or made in `room`.
  static const T* scaled(const T* grad, Index size, double scale, T* room) {
    if (scale == 1) return grad;
    const auto& k = kernels::table<T>();
    const kernels::UpdateScale<T> factor = split(scale);
    k.scale(grad, size, factor.power, room);
    k.scale(room, size, factor.rest, room);
    return room;
  }
  static constexpr Index kBlock = 1024;  // a few of them fit the first-level cache

  /// A tiny clip factor (gradients near 3e38) goes in as 2^-64 and the rest, both of them normal numbers in T.
  static kernels::UpdateScale<T> split(double scale) {
    const double power = scale != 0 && std::fabs(scale) < 0x1p-64 ? 0x1p-64 : 1.0;
    return {static_cast<T>(power), static_cast<T>(scale / power)};
  }
};

}  // namespace loopos
