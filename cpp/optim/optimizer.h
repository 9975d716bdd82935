// Updates tensors in place by rules (rule.h), all of them or none. The tensors are in groups with one rule each, so
// that matrices may follow one rule and the rest another within one step; a refusal of either leaves both untouched.
//
// A step reads gradients and weights first: a number that is not finite is found before anything is written, and the
// rule's bound on the largest possible result is compared with the range of T. Only where the bound cannot prove the
// update safe is it rehearsed on copies. Tensors are cut into chunks fixed by their size, so bits do not depend on
// the number of threads.
//
// Moments may be kept in fewer bits (moment_store.h): a chunk's are made numbers, updated, and kept again, rounded by
// chance that is a function of the step and the chunk. What is proved or rehearsed holds for the numbers; rounding keeps
// what is finite finite.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/buffer.h"
#include "core/check.h"
#include "optim/moment_store.h"
#include "optim/rule.h"

namespace loopos {

template <class T>
struct ParameterSlot {
  std::string name;
  std::vector<Index> shape;
  T* data;
  Index size;
  double weight_decay;
  std::size_t group;
};

/// rate: what the learning rate of a step is multiplied by.
template <class T>
struct OptimizerGroup {
  std::string name;  // of the rule
  std::unique_ptr<Rule<T>> rule;
  double rate = 1;
};

/// Why a step was refused: phase "backward" (a gradient) or "update" (what would have been written), the element's flat
/// place and value; the rule; what would have held it (the weight or a moment); and what it was to be computed from.
struct Refusal {
  const char* phase = nullptr;
  Index tensor = 0, flat = 0;
  double value = 0;
  std::string rule, result;
  Operands operands;
};

template <class T>
class Optimizer {
 public:
  /// The weights stay the caller's. Moments begin at zero. ValueError for moments in fewer bits of double, or of a rule
  /// of whole matrices.
  Optimizer(std::vector<OptimizerGroup<T>> groups, std::vector<ParameterSlot<T>> parameters,
            MomentStorage storage = MomentStorage::full);

  /// grads[i] has the size of parameter i. norm: finite and not below any |gradient|, such as their norm; NaN: the
  /// gradients are read for it. untouched: nobody has written to the weights since the last step, so that what it left
  /// in them need not be read for its size. Nothing is changed when a refusal comes back. agree: asked once the step is
  /// known to be safe and before anything is written; where it says no, a refusal without a phase comes back.
  std::optional<Refusal> step(const std::vector<const T*>& grads, double lr, double scale, double norm,
                              bool untouched = false, const std::function<bool()>& agree = nullptr);

  Index count() const { return count_; }
  void set_count(Index count) { count_ = count; }
  /// The moments of a tensor, by its rule.
  const std::vector<Moment>& moments(std::size_t tensor) const { return groups_[parameters_[tensor].group].kinds; }
  /// Moment `which` of a tensor as it is kept, writable, and the scales of its blocks (moment_store.h). Until the next
  /// step its numbers are taken to be unknown.
  void* moment(std::size_t which, std::size_t tensor);
  float* scales(std::size_t which, std::size_t tensor);
  MomentStorage storage() const { return storage_; }
  /// Its numbers, into `out`.
  void copy_moment(std::size_t which, std::size_t tensor, T* out);

 private:
  struct Chunk {
    Index tensor, begin, size;
  };
  struct Group : OptimizerGroup<T> {
    std::vector<Moment> kinds;
    std::array<MomentStore<T>, kMostMoments> moments;  // tensor after tensor
    Magnitudes top{};                                  // of moments: no moment is larger than this
    Magnitudes next{};                                 // the same after the step that is being tried
    bool known = true;                                 // whether top still holds
    bool proven = false;
    double weight_decay = 0;  // the largest
    Index size = 0;
  };

  const Group& group_of(const Chunk& c) const { return groups_[slot_of(c).group]; }
  const ParameterSlot<T>& slot_of(const Chunk& c) const { return parameters_[static_cast<std::size_t>(c.tensor)]; }
  UpdateStep step_of(const Group& group, double weight_decay, double lr, double scale) const {
    return {lr * group.rate, scale, weight_decay, count_};
  }
  Piece<T> piece(const std::vector<const T*>& grads, const Chunk& c, T* room);
  double update(const std::vector<const T*>& grads, double lr, double scale, const Chunk& c, double* tops);
  double* moment_tops(Index chunk) { return moment_tops_.data() + chunk * static_cast<Index>(kMostMoments); }
  Chunk whole(Index tensor) const { return {tensor, 0, parameters_[static_cast<std::size_t>(tensor)].size}; }

  bool measure(const std::vector<const T*>& grads, double norm, bool untouched);
  void measure_moments(std::size_t group);
  std::optional<Refusal> find_bad_gradient(const std::vector<const T*>& grads) const;
  std::optional<Refusal> rehearse(const std::vector<const T*>& grads, double lr, double scale);
  std::optional<Refusal> rehearse(const std::vector<const T*>& grads, double lr, double scale, const Chunk& c,
                                  T* copies);

  std::vector<Group> groups_;
  std::vector<ParameterSlot<T>> parameters_;
  std::vector<Index> offsets_;  // in the moments of its group
  std::vector<Chunk> chunks_;
  std::vector<double> tops_;         // per chunk: largest |gradient|, largest |weight|, NaN where that is not known
  std::vector<double> moment_tops_;  // per chunk: the largest of each moment, where they are kept in fewer bits
  MomentStorage storage_;
  Buffer<T> scratch_, copies_;
  Index count_ = 0;
};

}  // namespace loopos
