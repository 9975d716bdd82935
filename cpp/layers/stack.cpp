#include "layers/stack.h"

#include <algorithm>
#include <numeric>
#include <type_traits>

namespace loopos {

template <class T>
Stack<T>::Stack(ParameterSet<T>& set, const std::string& prefix, StackEnds<T>& ends, Index width,
                Index first_dropout_site, const std::vector<BlockConfig>& blocks)
    : set_(set), ends_(ends), width_(width) {
  Index i = 0;
  for (const auto& config : blocks) {
    first_numbers_.push_back(set.next_number());
    blocks_.emplace_back(set, Site{prefix + "blocks." + std::to_string(i), i},
                         first_dropout_site + i * BlockConfig::kDropoutSites, config);
    ++i;
  }
}

template <class T>
void Stack<T>::each_weight(const WeightVisitor<T>& visitor) {
  for (auto& block : blocks_) block.visit_weights(visitor);
  ends_.visit_weights(visitor);
}

/// Sequences per part, or 0 where the operations are to be cut: a pure function of the sizes, but for the number of
/// threads, on which no bit depends: a row of a float product does not know its neighbours, where they are enough
/// (kernels::same_when_packed). One of a double product does (Eigen), so double is never in parts.
template <class T>
Index Stack<T>::sequences_per_part(const Pass& pass) {
  constexpr Index kRows = 64;                 // of a part, about: its activations stay in the second-level cache
  constexpr Index kWeights = Index{2} << 20;  // packed, for both directions: more and packing costs too much
  if (!std::is_same_v<T, float>) return 0;
  Index weights = 0;
  bool alike = true;
  each_weight([&](const T* weight, Index in, Index out, PackedWeight<T>&) {
    const Index rows = weight ? pass.rows() : 0;  // one that is stored small is never packed beforehand
    weights += 2 * in * out;
    alike = alike && kernels::same_when_packed(set_.precision, rows, in, out) &&
            kernels::same_when_packed(set_.precision, rows, out, in);
  });
  const Index sequences = std::max<Index>(1, kRows / std::max<Index>(1, pass.time)),
              parts = (pass.batch + sequences - 1) / sequences;
  const bool small = weights <= kWeights && alike && ends_.can_part(pass);
  return small && !pass.probe && pass.cached == 0 && parts >= 2 && parts >= num_threads() ? sequences : 0;
}

/// The number of the first block that backward comes to.
template <class T>
Index Stack<T>::lowest_trained() const {
  if (ends_.input_trains()) return 0;
  const auto lowest =
      std::find_if(blocks_.begin(), blocks_.end(), [](const Block<T>& block) { return block.trains(); });
  return lowest - blocks_.begin();
}

/// Where the tokens stand, and where their documents begin.
template <class T>
void Stack<T>::place(const Pass& pass) {
  const bool shared = !pass.documents && !pass.padding;
  const auto count = static_cast<std::size_t>(shared ? pass.time : pass.rows());
  positions_.resize(count);
  begins_.resize(shared ? 0 : count);
  if (shared) return std::iota(positions_.begin(), positions_.end(), pass.start);
  for (Index b = 0; b < pass.batch; ++b)
    for (Index t = 0, begin = 0; t < pass.time; ++t) {
      const auto at = static_cast<std::size_t>(b * pass.time + t);
      const Index place = pass.start + t;
      if (pass.padding) begin = std::min(place, pass.padding[b]);  // what fills up sees itself
      if (pass.documents && t > 0 && pass.documents[at] != pass.documents[at - 1]) begin = place;
      begins_[at] = begin;
      positions_[at] = place - begin;
    }
}

template <class T>
Pass Stack<T>::placed(const Pass& whole) const {
  Pass pass = whole;
  pass.positions = {positions_.data(), begins_.empty() ? 0 : whole.time};
  pass.begins = begins_.empty() ? nullptr : begins_.data();
  return pass;
}

template <class T>
typename Stack<T>::Plan Stack<T>::plan_of(const Pass& pass, bool training) {
  Plan plan;
  plan.batch = pass.batch;
  plan.time = pass.time;
  plan.prefix = pass.prefix;
  plan.part = sequences_per_part(pass);
  plan.selection = set_.selection();
  plan.training = training;
  plan.lowest = training ? lowest_trained() : static_cast<Index>(blocks_.size());
  plan.dropout = pass.dropout > 0;
  plan.probed = pass.probe != nullptr;
  plan.scored = pass.scored;
  plan.compared = pass.compared;
  plan.precision = set_.precision;
  return plan;
}

template <class T>
void Stack<T>::lay_out(Arena<T>& arena, const Pass& pass) {
  plan_packing(arena);
  plan_activations(arena, pass);
  if (plan_.training) plan_gradients(arena, pass);
}

/// A pure function of the sizes and of what trains, as bits depend on it: a parameter's gradient is the sum over groups.
/// Products of fewer rows than kRows would be slow.
template <class T>
Index Stack<T>::sequences_at_once(const Pass& batch, bool training) {
  constexpr Index kRows = 256;
  const Index least = (kRows + batch.time - 1) / batch.time;
  if (batch.batch <= least || batch.probe) return batch.batch;
  if (plan_of(batch, training).part > 0) return batch.batch;
  return std::max(least, kMost / std::max<Index>(1, sequence_size(batch, training)));
}

/// The numbers that a pass over one sequence takes, no block repeated. Logits have a bound of their own.
template <class T>
Index Stack<T>::sequence_size(const Pass& batch, bool training) {
  Pass one = batch.group(0, 1);
  one.scored = one.compared = false;
  if (const Plan plan = plan_of(one, training); !(plan == measured_)) {
    measured_size_ = lay_out_nowhere(one, plan);
    measured_ = plan;
  }
  return measured_size_;
}

/// How many blocks keep the least: as many as bring the pass within kMost, or all. No bit depends on it. It takes an
/// eighth of the time at most where all weights train. It would take more where few do, as with adapters; they have no
/// gradients and moments of the other weights to hold, and keep what is costly.
template <class T>
Index Stack<T>::repeated_blocks(const Pass& pass, const Plan& plan) {
  if (!plan.training || plan.part > 0 || pass.probe || !set_.mostly_trains()) return 0;
  Index excess = pass.batch * sequence_size(pass, true) - kMost, count = 0;
  for (auto block = blocks_.begin() + plan.lowest; block != blocks_.end() && excess > 0; ++block, ++count) {
    if (block->modulation()) return 0;  // what its up projection is given is not kept
    excess -= pass.rows() * block->repeated_width();
  }
  return count;
}

template <class T>
typename Stack<T>::Plan Stack<T>::whole_plan(const Pass& pass, bool training) {
  Plan plan = plan_of(pass, training);
  plan.repeated = repeated_blocks(pass, plan);
  return plan;
}

template <class T>
Index Stack<T>::group_size(const Pass& batch, bool training) {
  const Index most = std::max<Index>(1, sequences_at_once(batch, training)),
              groups = std::max<Index>(1, (batch.batch + most - 1) / most);
  return std::max<Index>(1, (batch.batch + groups - 1) / groups);
}

template <class T>
void Stack<T>::prepare(const Pass& pass, bool training) {
  const Plan plan = whole_plan(pass, training);
  place(pass);
  if (plan == plan_) return;
  plan_ = plan;
  try {
    arena_.arrange([&](Arena<T>& arena) { lay_out(arena, pass); });
    plan_tasks();
  } catch (...) {
    plan_ = Plan();  // a plan that fails half-way leaves none
    throw;
  }
}

template <class T>
Index Stack<T>::measure(const Pass& pass, bool training) {
  return lay_out_nowhere(pass, whole_plan(pass, training));
}

template <class T>
Index Stack<T>::lay_out_nowhere(const Pass& pass, const Plan& plan) {
  place(pass);
  plan_ = plan;
  Arena<T> without_memory;
  lay_out(without_memory, pass);
  plan_ = Plan();  // what was laid out lies nowhere: the next pass plans anew
  return without_memory.peak();
}

/// The largest first, so that no thread is left with one at the end.
template <class T>
void Stack<T>::plan_tasks() {
  tasks_.clear();
  for (auto block = blocks_.rbegin(); block != blocks_.rend() - plan_.lowest; ++block) block->gradient_tasks(tasks_);
  ends_.gradient_tasks(tasks_);
  std::stable_sort(tasks_.begin(), tasks_.end(), [](const auto& a, const auto& b) { return a.size > b.size; });
}

template <class T>
void Stack<T>::plan_packing(Arena<T>& arena) {
  packing_.clear();
  if (!in_parts()) return;
  each_weight([&](const T* weight, Index in, Index out, PackedWeight<T>& packed) {
    if (!weight) return;
    packed = {weight, in, out, set_.precision};
    const auto plan = [&](kernels::PackedMatrix<T>& side) {
      constexpr Index kColumns = 128;
      side.memory = arena.take(side.size());
      if (side.size() > 0)
        for (Index begin = 0; begin < side.source.columns; begin += kColumns)
          packing_.push_back({&side, begin, std::min(side.source.columns, begin + kColumns)});
    };
    plan(packed.forward);
    if (plan_.training) plan(packed.backward);
  });
}

template <class T>
void Stack<T>::pack_weights() {
  parallel_for(static_cast<Index>(packing_.size()), [&](Index i) {
    const Packing& p = packing_[static_cast<std::size_t>(i)];
    p.weight->pack(p.begin, p.end);
  });
}

template <class T>
void Stack<T>::begin(const Pass& whole) {
  visit_projections([&](auto& projection) { projection->begin(whole); });
}

template <class T>
void Stack<T>::plan_activations(Arena<T>& arena, const Pass& pass) {
  const auto rows = [&] { return take_rows(arena, pass, width_); };
  work_ = {};
  input_ = rows();
  if (plan_.lowest > 0) work_.stream = rows();
  if (keep() == Keep::costly) work_.normed = rows();
  if (plan_.training) {
    Index width = 0, mapping = 0, number = 0;
    for (const auto& block : blocks_) {
      width = std::max(width, block.hidden_width(pass, keep_of(number++)));
      if (block.modulation()) mapping = std::max(mapping, block.modulation()->workspace_width());
    }
    work_.hidden = take_rows(arena, pass, width);
    if (keep() == Keep::costly) work_.mapping = take_rows(arena, pass, mapping);
  }
  const Index mark = arena.mark();
  const auto free_blocks = [&] {  // while a part is among them another may be further on
    if (!in_parts()) arena.release(mark);
  };
  Rows<T> flow = input_;
  Index number = 0;
  for (auto& block : blocks_) {
    const bool trained = number >= plan_.lowest;
    if (!trained) arena.release(mark);  // blocks that keep nothing share their memory, each part its rows of it
    if (number == plan_.lowest) free_blocks();
    block.plan(arena, pass, keep_of(number), work_, flow);
    flow = block.output();
    ++number;
  }
  if (number == plan_.lowest) free_blocks();
  ends_.plan(arena, pass, keep(), work_);
}

/// Parts keep what the parameters' gradients need until all are through; else one block's is enough.
template <class T>
void Stack<T>::plan_gradients(Arena<T>& arena, const Pass& pass) {
  const auto rows = [&] { return take_rows(arena, pass, width_); };
  work_.dnormed = rows();
  doutput_ = dinput_ = rows();
  if (keep() == Keep::costly) {
    const Index slots = Norm<T>::slots_size(pass, width_);
    work_.slots = {arena.take(slots), slots};
    work_.dstream = doutput_;
    const auto any = [&](auto asked) {
      return std::any_of(blocks_.begin(), blocks_.end(), [&](const Block<T>& block) { return (block.*asked)(); });
    };
    if (plan_.dropout || any(&Block<T>::modulation)) work_.dbranch = rows();
    if (any(&Block<T>::post_norms)) work_.draw = rows();
    if (any(&Block<T>::parallel)) work_.dmiddle = rows();
  }
  ends_.plan_gradients(arena, pass, work_);
  auto number = static_cast<Index>(blocks_.size());
  for (auto block = blocks_.rbegin(); block != blocks_.rend() - plan_.lowest; ++block)
    dinput_ = block->plan_gradients(arena, pass, keep_of(--number), work_, dinput_);
}

template <class T>
void Stack<T>::finish_gradients(const Pass& whole) {
  if (in_parts())
    parallel_for(static_cast<Index>(tasks_.size()), [&](Index i) { tasks_[static_cast<std::size_t>(i)].run(whole); });
}

template <class T>
void Stack<T>::plan_cache(Index batch, Index length, Index kept, Index kept_length) {
  double width = 0;  // in double: sizes that no memory holds do not wrap
  for (auto& block : blocks_) {
    if (kept == 0) block.attention().plan_cache({});
    width += 2 * static_cast<double>(block.attention().cache_width());
  }
  const double numbers = width * static_cast<double>(batch) * static_cast<double>(length);
  require_memory("the key/value cache of generation", numbers * sizeof(T));
  Buffer<T> old;
  if (kept > 0) std::swap(old, cache_);
  const T* from = old.data();
  T* next = nullptr;
  try {
    next = cache_.reserve(static_cast<Index>(numbers));
  } catch (...) {
    if (kept > 0) std::swap(old, cache_);
    throw;
  }
  for (auto& block : blocks_) {
    const Index width = block.attention().cache_width(), size = batch * length * width;
    block.attention().plan_cache({next, next + size});
    for (Index row = 0; kept > 0 && row < 2 * batch; ++row)  // of the keys, then of the values
      std::copy_n(from + row * kept_length * width, kept * width, next + row * length * width);
    from += 2 * batch * kept_length * width;
    next += 2 * size;
  }
}

template <class T>
void Stack<T>::reorder_cache(const std::vector<Index>& from, Index length, Index used) {
  std::vector<T> before;
  for (auto& block : blocks_) {
    const KeyValueCache<T> cache = block.attention().cache();
    const Index row = length * block.attention().cache_width(), count = used * block.attention().cache_width();
    for (T* rows : {cache.keys, cache.values}) {
      before.resize(from.size() * static_cast<std::size_t>(count));
      for (std::size_t b = 0; b < from.size(); ++b)
        std::copy_n(rows + from[b] * row, count, before.data() + static_cast<Index>(b) * count);
      for (std::size_t b = 0; b < from.size(); ++b)
        std::copy_n(before.data() + static_cast<Index>(b) * count, count, rows + static_cast<Index>(b) * row);
    }
  }
}

template class Stack<float>;
template class Stack<double>;

}  // namespace loopos
