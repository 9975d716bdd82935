// Muon, momentum made orthogonal, for matrices; as torch.optim.Muon. Jordan et al. 2024; Liu et al. 2025 (match_rms).
//   g = scale grad
//   m = momentum m + (1 - momentum) g
//   d = momentum m + (1 - momentum) g (Nesterov) or m
//   X = d / max(|d|, eps)                              (|d| the Frobenius norm)
//   X = (a I + b A + c A^2) X  with A = X X^T          (ns_steps times: Newton-Schulz)
//   p *= 1 - lr decay
//   p -= lr sqrt(max(1, rows / columns)) X             (match_rms_adamw: lr 0.2 sqrt(max(rows, columns)) X)
// A tall matrix is multiplied from the other side, X (a I + b A + c A^2) with A = X^T X: the same, of the smaller A.
// Newton-Schulz runs in T (torch: bfloat16). The polynomial takes singular values in [0, 1.2025] into that interval, so
// no element of X can grow. Sums of products are the kernels'; the norm is taken in double and never overflows.
#pragma once

#include <algorithm>

#include "core/thread_pool.h"
#include "kernels/gemm/gemm.h"
#include "ops/global_norm.h"
#include "optim/options.h"
#include "optim/rule.h"

namespace loopos {

template <class T>
class Muon : public Rule<T> {
 public:
  explicit Muon(RuleOptions& options)
      : momentum_(options.number("momentum", 0.95, 1)),
        eps_(options.number("eps", 1e-7)),
        nesterov_(options.flag("nesterov", true)),
        match_rms_(options.choice("adjust_lr_fn", {"original", "match_rms_adamw"}) == 1),
        ns_steps_(options.whole("ns_steps", 5, 0, 99)) {}

  std::vector<Moment> moments() const override { return {{"momentum", true}}; }

  void adopt(const std::string& name, const std::vector<Index>& shape) override {
    std::string shown;
    for (Index n : shape) shown += cat(shown.empty() ? "" : ", ", n);
    require(shape.size() == 2, "Muon: params must be matrices; '", name, "' has shape (", shown,
            shape.size() == 1 ? ",)" : ")", "; give tensors that are none to another optimizer");
    if (shape[0] == 0 || shape[1] == 0) return;
    largest_rate_ = std::max(largest_rate_, rate(shape[0], shape[1]));
    scratch_ = std::max(scratch_, Room(shape[0], shape[1]).size());
  }

  bool whole_matrices() const override { return true; }
  Index scratch() const override { return scratch_; }

  double update(const UpdateStep& step, const Piece<T>& piece) const override {
    const auto& k = kernels::table<T>();
    const Room room(piece.rows, piece.columns);
    T* x = piece.scratch;
    const T kept = static_cast<T>(momentum_), added = static_cast<T>(1 - momentum_);
    blocks(piece.size, [&](Index begin, Index n) {
      T memory[Rule<T>::kBlock];
      const T* grad = this->scaled(piece.grad + begin, n, step.scale, memory);
      T* m = piece.moments[0] + begin;
      k.blend(grad, added, m, kept, n, m);
      if (nesterov_)
        k.blend(grad, added, m, kept, n, x + begin);
      else
        std::copy(m, m + n, x + begin);
    });
    if (step.lr == 0) return this->kNotSeen;
    const Span<T> all{x, piece.size};
    ScaledNorm norm = scaled_norm(&all, 1);
    if (!(norm.value() > eps_)) norm = {eps_, 0};
    scale_to_norm(x, piece.size, 1.0, norm, x);
    x = orthogonalise(piece, room);
    const T keep = static_cast<T>(1 - step.lr * step.weight_decay);
    const T move = static_cast<T>(-step.lr * rate(piece.rows, piece.columns));
    blocks(piece.size, [&](Index begin, Index n) {
      T* weight = piece.weight + begin;
      k.blend(x + begin, move, weight, keep, n, weight);
    });
    return this->kNotSeen;
  }

  bool bound(const UpdateStep& step, Magnitudes& m) const override {
    constexpr double kLargest = 2;  // of X: 1.2025, and what rounding in long sums may add
    const double g = m.grad * std::fabs(step.scale) * this->kSlack, before = m.moments[0];
    const double keep = std::max(1.0, std::fabs(1 - step.lr * step.weight_decay)) * m.weight;
    const double move = step.lr * largest_rate_ * kLargest;
    m.moments[0] = (momentum_ * before + (1 - momentum_) * g) * this->kSlack;
    // d is 0 where all gradients have been: eps 0 proves nothing
    return eps_ > std::numeric_limits<double>::min() && this->below_limit({g, before, m.moments[0], move, move + keep});
  }

  /// "direction": the element of X, the step before the rate; "rate factor": what the rate is multiplied by.
  void operands(const UpdateStep& step, const Piece<T>& piece, Index at, Operands& list) const override {
    if (step.lr == 0) return;
    const Room room(piece.rows, piece.columns);
    list.emplace_back("direction", static_cast<double>(piece.scratch[(ns_steps_ % 2 ? room.other : 0) + at]));
    list.emplace_back("rate factor", rate(piece.rows, piece.columns));
  }

 private:
  static constexpr double kA = 3.4445, kB = -4.7750, kC = 2.0315;

  /// Where things are in the scratch: X first, then the next X, A, and the polynomial of A.
  struct Room {
    Index small, large, other, gram, polynomial;

    Room(Index rows, Index columns) : small(std::min(rows, columns)), large(std::max(rows, columns)) {
      other = aligned(small * large);
      gram = 2 * other;
      polynomial = gram + aligned(small * small);
    }
    Index size() const { return polynomial + aligned(small * small); }
    static Index aligned(Index n) { return (n + 15) / 16 * 16; }
  };

  double rate(Index rows, Index columns) const {
    const double m = static_cast<double>(rows), n = static_cast<double>(columns);
    return match_rms_ ? 0.2 * std::sqrt(std::max(m, n)) : std::sqrt(std::max(1.0, m / n));
  }

  template <class Body>
  static void blocks(Index size, const Body& body) {
    parallel_blocks(size, 16 * Rule<T>::kBlock, [&](Index begin, Index end) {
      for (; begin < end; begin += Rule<T>::kBlock) body(begin, std::min(Rule<T>::kBlock, end - begin));
    });
  }

  /// X in the scratch made orthogonal; where the result is.
  T* orthogonalise(const Piece<T>& piece, const Room& room) const {
    using kernels::gemm, kernels::matrix, kernels::transpose;
    const auto& k = kernels::table<T>();
    const bool tall = piece.rows > piece.columns;
    const Index side = room.small;
    T *x = piece.scratch, *next = x + room.other, *gram = x + room.gram, *polynomial = x + room.polynomial;
    const auto a = matrix(gram, side, side), p = matrix(polynomial, side, side);
    for (Index step = 0; step < ns_steps_; ++step) {
      const auto stored = matrix(x, piece.rows, piece.columns);
      const auto wide = tall ? transpose(stored) : stored;
      gemm(wide, transpose(wide), {gram, side});
      gemm(a, a, {polynomial, side});
      blocks(side * side, [&](Index begin, Index n) {
        k.blend(polynomial + begin, static_cast<T>(kC), gram + begin, static_cast<T>(kB), n, polynomial + begin);
      });
      for (Index i = 0; i < side; ++i) polynomial[i * side + i] += static_cast<T>(kA);
      if (tall)
        gemm(stored, p, {next, piece.columns});
      else
        gemm(p, stored, {next, piece.columns});
      std::swap(x, next);
    }
    return x;
  }

  double momentum_, eps_;
  bool nesterov_, match_rms_;
  Index ns_steps_;
  double largest_rate_ = 0;
  Index scratch_ = 0;
};

}  // namespace loopos
