#include "optim/optimizer.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/philox.h"
#include "core/thread_pool.h"

namespace loopos {
namespace {

constexpr Index kChunk = 8192;                         // four arrays of it fit the second-level cache
constexpr std::uint64_t kRounding = 0x6d6f6d656e7473;  // key of the chance that moments are rounded by
static_assert(kChunk % kernels::kMomentBlock == 0);
constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();

/// max that keeps a NaN.
double larger(double a, double b) {
  return std::isnan(a) || a > b ? a : b;
}

}  // namespace

template <class T>
Optimizer<T>::Optimizer(std::vector<OptimizerGroup<T>> groups, std::vector<ParameterSlot<T>> parameters,
                        MomentStorage storage)
    : parameters_(std::move(parameters)), storage_(storage) {
  for (auto& group : groups) {
    groups_.emplace_back();
    static_cast<OptimizerGroup<T>&>(groups_.back()) = std::move(group);
    groups_.back().kinds = groups_.back().rule->moments();
    require(storage == MomentStorage::full || !groups_.back().rule->whole_matrices(), "Optimizer: moments of '",
            groups_.back().name, "', which updates whole matrices, can only be 'float32'");
  }
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const auto& p = parameters_[i];
    Group& group = groups_[p.group];
    group.rule->adopt(p.name, p.shape);
    offsets_.push_back(group.size);
    const Index spacing = MomentStore<T>::spacing(storage);
    group.size += (p.size + spacing - 1) / spacing * spacing;
    group.weight_decay = std::max(group.weight_decay, p.weight_decay);
    for (Index begin = 0; begin < p.size; begin += kChunk)
      chunks_.push_back({static_cast<Index>(i), begin, std::min(kChunk, p.size - begin)});
  }
  tops_.assign(2 * chunks_.size(), kUnknown);
  if (storage != MomentStorage::full) moment_tops_.assign(kMostMoments * chunks_.size(), 0);
  for (Group& group : groups_) {
    for (std::size_t w = 0; w < group.kinds.size(); ++w)
      group.moments[w] = MomentStore<T>(storage, group.kinds[w].negative, group.size);
    scratch_.reserve(group.rule->scratch());
  }
}

template <class T>
void* Optimizer<T>::moment(std::size_t which, std::size_t tensor) {
  Group& group = groups_[parameters_[tensor].group];
  group.known = false;
  return group.moments[which].kept(offsets_[tensor]);
}

template <class T>
float* Optimizer<T>::scales(std::size_t which, std::size_t tensor) {
  Group& group = groups_[parameters_[tensor].group];
  group.known = false;
  return group.moments[which].scales(offsets_[tensor]);
}

template <class T>
void Optimizer<T>::copy_moment(std::size_t which, std::size_t tensor, T* out) {
  const Index n = parameters_[tensor].size;
  const T* numbers = groups_[parameters_[tensor].group].moments[which].numbers(offsets_[tensor], n, out);
  if (numbers != out) std::copy(numbers, numbers + n, out);
}

/// The living numbers of a chunk; of moments in fewer bits a copy in `room`, kMostMoments times its size.
template <class T>
Piece<T> Optimizer<T>::piece(const std::vector<const T*>& grads, const Chunk& c, T* room) {
  const auto i = static_cast<std::size_t>(c.tensor);
  const auto& p = parameters_[i];
  Group& group = groups_[p.group];
  Piece<T> piece{};
  if (p.shape.size() == 2) piece.rows = p.shape[0], piece.columns = p.shape[1];
  piece.size = c.size;
  piece.grad = grads[i] + c.begin;
  piece.weight = p.data + c.begin;
  for (std::size_t w = 0; w < group.kinds.size(); ++w)
    piece.moments[w] =
        group.moments[w].numbers(offsets_[i] + c.begin, c.size, room ? room + static_cast<Index>(w) * c.size : room);
  piece.scratch = scratch_.data();
  return piece;
}

/// The largest gradient and weight of each group; whether all gradients are finite.
template <class T>
bool Optimizer<T>::measure(const std::vector<const T*>& grads, double norm, bool untouched) {
  const auto& k = kernels::table<T>();
  const bool known = std::isfinite(norm);
  parallel_blocks(static_cast<Index>(chunks_.size()), 2, [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      const Chunk& c = chunks_[static_cast<std::size_t>(i)];
      const T* grad = grads[static_cast<std::size_t>(c.tensor)] + c.begin;
      tops_[static_cast<std::size_t>(2 * i)] = known ? norm : static_cast<double>(k.max_abs(grad, c.size));
      double& weight = tops_[static_cast<std::size_t>(2 * i + 1)];
      if (!untouched || std::isnan(weight)) weight = static_cast<double>(k.max_abs(slot_of(c).data + c.begin, c.size));
    }
  });
  for (Group& group : groups_) group.top.grad = group.top.weight = 0;
  bool finite = true;
  for (std::size_t i = 0; i < chunks_.size(); ++i) {
    Group& group = groups_[slot_of(chunks_[i]).group];
    group.top.grad = larger(tops_[2 * i], group.top.grad);
    group.top.weight = larger(tops_[2 * i + 1], group.top.weight);
    finite = finite && std::isfinite(tops_[2 * i]);
  }
  return finite;
}

/// The bounds, read from the moments themselves. A moment below zero that may not be (it can only have been written by
/// hand) has no bound.
template <class T>
void Optimizer<T>::measure_moments(std::size_t which) {
  Group& group = groups_[which];
  struct Room;
  T* room = scratch<T, Room>(kChunk);
  group.top.moments = {};
  for (const Chunk& c : chunks_) {
    if (slot_of(c).group != which) continue;
    for (std::size_t w = 0; w < group.kinds.size(); ++w) {
      const T* x = group.moments[w].numbers(offsets_[static_cast<std::size_t>(c.tensor)] + c.begin, c.size, room);
      double& top = group.top.moments[w];
      top = larger(static_cast<double>(kernels::table<T>().max_abs(x, c.size)), top);
      if (!group.kinds[w].negative && std::any_of(x, x + c.size, [](T v) { return v < T(0); })) top = kUnknown;
    }
  }
}

template <class T>
std::optional<Refusal> Optimizer<T>::find_bad_gradient(const std::vector<const T*>& grads) const {
  for (std::size_t i = 0; i < grads.size(); ++i) {
    const auto& p = parameters_[i];
    const Index at = kernels::table<T>().first_nonfinite(grads[i], p.size);
    if (at < p.size)
      return Refusal{
          "backward", static_cast<Index>(i), at, static_cast<double>(grads[i][at]), groups_[p.group].name, "gradient",
          {}};
  }
  return std::nullopt;
}

/// The exact update of one chunk on copies; the first result that is not finite.
template <class T>
std::optional<Refusal> Optimizer<T>::rehearse(const std::vector<const T*>& grads, double lr, double scale,
                                              const Chunk& c, T* copies) {
  const Group& group = group_of(c);
  const auto& p = slot_of(c);
  const std::size_t parts = 1 + group.kinds.size();
  const Piece<T> living = piece(grads, c, copies + static_cast<Index>(parts) * c.size);
  const auto number = [](T x) { return static_cast<double>(x); };
  const auto part = [&](const Piece<T>& x, std::size_t w) { return w == 0 ? x.weight : x.moments[w - 1]; };
  Piece<T> tried = living;
  for (std::size_t w = 0; w < parts; ++w) {
    T* copy = copies + static_cast<Index>(w) * c.size;
    std::copy(part(living, w), part(living, w) + c.size, copy);
    (w == 0 ? tried.weight : tried.moments[w - 1]) = copy;
  }
  const UpdateStep step = step_of(group, p.weight_decay, lr, scale);
  group.rule->update(step, tried);
  for (std::size_t w = 0; w < parts; ++w) {
    const Index at = kernels::table<T>().first_nonfinite(part(tried, w), c.size);
    if (at == c.size) continue;
    Refusal refusal{"update",
                    c.tensor,
                    c.begin + at,
                    number(part(tried, w)[at]),
                    group.name,
                    w > 0 ? group.kinds[w - 1].name : "weight",
                    {}};
    refusal.operands = {{"weight", number(living.weight[at])},
                        {"gradient", number(living.grad[at])},
                        {"clip_factor", scale},
                        {"learning_rate", step.lr},
                        {"weight_decay", p.weight_decay}};
    for (std::size_t m = 0; m < group.kinds.size(); ++m) {
      refusal.operands.emplace_back(group.kinds[m].name, number(living.moments[m][at]));
      refusal.operands.emplace_back("new " + group.kinds[m].name, number(tried.moments[m][at]));
    }
    group.rule->operands(step, tried, at, refusal.operands);
    return refusal;
  }
  return std::nullopt;
}

/// Rehearses every group that is not proven safe; the first refusal in the order of tensors.
template <class T>
std::optional<Refusal> Optimizer<T>::rehearse(const std::vector<const T*>& grads, double lr, double scale) {
  Index most = (1 + 2 * static_cast<Index>(kMostMoments)) * kChunk;
  for (const auto& p : parameters_) {
    const Group& group = groups_[p.group];
    if (group.rule->whole_matrices()) most = std::max(most, (1 + static_cast<Index>(group.kinds.size())) * p.size);
  }
  T* copies = copies_.reserve(most);
  for (const Chunk& c : chunks_) {
    const Group& group = group_of(c);
    const bool matrix = group.rule->whole_matrices();
    if (group.proven || (matrix && c.begin > 0)) continue;
    if (auto refusal = rehearse(grads, lr, scale, matrix ? whole(c.tensor) : c, copies)) return refusal;
  }
  return std::nullopt;
}

/// One chunk. tops: the largest of each moment, of those in fewer bits. Returns what Rule::update does.
template <class T>
double Optimizer<T>::update(const std::vector<const T*>& grads, double lr, double scale, const Chunk& c, double* tops) {
  const auto tensor = static_cast<std::size_t>(c.tensor);
  Group& group = groups_[slot_of(c).group];
  struct Room;
  T* room = storage_ == MomentStorage::full ? nullptr : scratch<T, Room>(static_cast<Index>(kMostMoments) * kChunk);
  const Piece<T> living = piece(grads, c, room);
  const double top = group.rule->update(step_of(group, slot_of(c).weight_decay, lr, scale), living);
  if (storage_ != MomentStorage::full) {
    const auto place = static_cast<std::uint64_t>(&c - chunks_.data());
    const Philox4 words = philox(kRounding, place, static_cast<std::uint64_t>(count_));
    for (std::size_t w = 0; w < group.kinds.size(); ++w)
      tops[w] = group.moments[w].keep(offsets_[tensor] + c.begin, c.size, living.moments[w], words[w]);
  }
  return group.proven ? top : kUnknown;
}

template <class T>
std::optional<Refusal> Optimizer<T>::step(const std::vector<const T*>& grads, double lr, double scale, double norm,
                                          bool untouched, const std::function<bool()>& agree) {
  if (!measure(grads, norm, untouched)) return find_bad_gradient(grads);

  bool proven = true;
  for (std::size_t i = 0; i < groups_.size(); ++i) {
    Group& group = groups_[i];
    if (!group.known) measure_moments(i);
    group.next = group.top;
    group.proven = group.rule->bound(step_of(group, group.weight_decay, lr, scale), group.next);
    proven = proven && group.proven;
  }
  if (!proven)
    if (auto refusal = rehearse(grads, lr, scale)) return refusal;
  if (agree && !agree()) return Refusal{};
  for (Group& group : groups_) {
    group.top = group.next;
    group.known = group.proven;  // a rehearsal shows that all results are finite, not how large they are
  }

  parallel_blocks(static_cast<Index>(chunks_.size()), 4, [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      const Chunk& c = chunks_[static_cast<std::size_t>(i)];
      double* tops = storage_ == MomentStorage::full ? nullptr : moment_tops(i);
      tops_[static_cast<std::size_t>(2 * i + 1)] =
          group_of(c).rule->whole_matrices() ? kUnknown : update(grads, lr, scale, c, tops);
    }
  });
  for (const Chunk& c : chunks_)
    if (c.begin == 0 && group_of(c).rule->whole_matrices()) update(grads, lr, scale, whole(c.tensor), nullptr);
  if (storage_ != MomentStorage::full) {  // rounding may have made them larger than was proved, but not by much
    for (Group& group : groups_) group.top.moments = {}, group.known = true;
    for (std::size_t i = 0; i < chunks_.size(); ++i) {
      Group& group = groups_[slot_of(chunks_[i]).group];
      for (std::size_t w = 0; w < group.kinds.size(); ++w)
        group.top.moments[w] = larger(moment_tops(static_cast<Index>(i))[w], group.top.moments[w]);
    }
  }
  ++count_;
  return std::nullopt;
}

template class Optimizer<float>;
template class Optimizer<double>;

}  // namespace loopos
