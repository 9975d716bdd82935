// A stack of blocks, and the only place that knows how a pass is carried out: as a whole or in parts of the batch, what
// is kept and what is recomputed, which weights are packed beforehand, and where the memory lies.
//
// Small models go in parts: one thread takes a few sequences through all layers, forward and backward, and the weights
// are packed beforehand. Others go as a whole: the operations are cut between threads, and activations that are cheap
// are recomputed in backward. The bits are the same. Of a large batch only as many sequences go at once as fit a bound on
// memory; where one alone holds more, backward repeats the up projection of as many blocks as it takes.
//
// Backward ends below the lowest block with a trainable parameter; blocks below it keep nothing.
#pragma once

#include <algorithm>
#include <deque>
#include <string>

#include "layers/block.h"

namespace loopos {

/// What stands around the blocks of a stack and follows its plan: an input layer before them, a norm and a head behind.
template <class T>
class StackEnds {
 public:
  virtual ~StackEnds() = default;
  virtual void plan(Arena<T>& arena, const Pass& pass, Keep keep, const Workspace<T>& work) = 0;
  virtual void plan_gradients(Arena<T>& arena, const Pass& pass, const Workspace<T>& work) = 0;
  virtual void visit_weights(const WeightVisitor<T>& visitor) = 0;
  virtual void gradient_tasks(GradientTasks& tasks) = 0;
  /// Whether a part of the batch can be taken through them on its own.
  virtual bool can_part(const Pass& pass) const = 0;
  /// Whether the gradient of the stack's input is wanted.
  virtual bool input_trains() const = 0;
};

template <class T>
class Stack {
 public:
  /// prefix: of the names. blocks: one for each, all of this width.
  Stack(ParameterSet<T>& set, const std::string& prefix, StackEnds<T>& ends, Index width, Index first_dropout_site,
        const std::vector<BlockConfig>& blocks);

  bool trains() const {
    return std::any_of(blocks_.begin(), blocks_.end(), [](const Block<T>& block) { return block.trains(); });
  }
  void visit_projections(const SlotVisitor<T>& visitor) {
    for (auto& block : blocks_) block.visit_projections(visitor);
  }

  /// What the cross-attention of its blocks sees in every pass from now on.
  void look_at(const Memory<T>& memory) {
    for (auto& block : blocks_) block.look_at(memory);
  }

  /// A modulation in every block, with parameters from `set`; and none.
  void modulate(ParameterSet<T>& set, const ModulationConfig& config) {
    for (auto& block : blocks_) block.modulate(set, config);
  }
  void unmodulate() {
    for (auto& block : blocks_) block.unmodulate();
  }
  void enable_modulation(bool on) {
    for (auto& block : blocks_)
      if (auto* modulation = block.modulation()) modulation->enable(on);
  }

  /// Sequences at once of a batch that goes in groups, one after another (each_group): as few groups as keep what a pass
  /// holds within a fixed number of bytes. One where all fits, for a trace, and in parts.
  Index group_size(const Pass& batch, bool training);
  /// Plans for a pass over the whole batch; nothing is done where the last plan fits.
  void prepare(const Pass& whole, bool training);
  /// The numbers that a plan for such a pass takes, without taking them. What was planned is given up.
  Index measure(const Pass& whole, bool training);
  Index held() const { return arena_.held(); }
  /// The same pass, told where its tokens stand. After prepare.
  Pass placed(const Pass& whole) const;
  /// body(part) for every part of the batch, on several threads; or body(whole), whose operations use several.
  template <class Body>
  void each_part(const Pass& whole, Body&& body);

  /// (rows, C): where the input layer writes.
  T* input(const Pass& pass) const { return input_.at(pass); }
  /// From input to output. seen(block, x): what flows out of it, (rows, C).
  template <class Seen>
  void forward(const Pass& pass, const Seen& seen);
  T* output(const Pass& pass) const { return (blocks_.empty() ? input_ : blocks_.back().output()).at(pass); }

  /// Whether what the planned pass gives is of the tokens alone, without the rows of a prefix. Then output is asked for
  /// with their pass, and the gradient of the output goes into dnarrow instead of doutput.
  bool narrows() const { return !blocks_.empty() && blocks_.back().narrows(); }
  T* dnarrow(const Pass& tokens) const { return blocks_.back().doutput().at(tokens); }

  /// Where the gradient of the output is put before backward.
  T* doutput(const Pass& pass) const { return doutput_.at(pass); }
  /// From doutput to the gradient of the input, or of the lowest block that trains. join(block, x, dx): before a block's
  /// own backward may add to dx, the gradient of what flowed out of it.
  template <class Join>
  void backward(const Pass& pass, const Join& join);
  /// Calls gradients() where a pass over the whole batch takes the parameters' gradients on the way.
  template <class Gradients>
  void due(Gradients&& gradients) const {
    if (!in_parts()) gradients();
  }
  /// After all parts: the parameters' gradients that were not taken on the way; each is the work of one thread.
  void finish_gradients(const Pass& whole);
  T* dinput(const Pass& pass) const { return dinput_.at(pass); }

  /// Memory for keys and values of `length` positions in every block. The first `kept` of them are those of the last
  /// plan, which was for the same batch and `kept_length` positions.
  void plan_cache(Index batch, Index length, Index kept = 0, Index kept_length = 0);
  /// Row b of that cache becomes what row from[b] was, as far as its first `used` positions go.
  void reorder_cache(const std::vector<Index>& from, Index length, Index used);

 private:
  struct Plan {
    Index batch = -1, time = -1, prefix = 0, part = 0, lowest = 0, repeated = 0, selection = 0;
    bool training = false, dropout = false, probed = false, scored = false, compared = false;
    Precision precision = Precision::float32;
    bool operator==(const Plan& o) const {
      return batch == o.batch && time == o.time && prefix == o.prefix && part == o.part && lowest == o.lowest &&
             repeated == o.repeated && selection == o.selection && training == o.training && dropout == o.dropout &&
             probed == o.probed && scored == o.scored && compared == o.compared && precision == o.precision;
    }
  };
  struct Packing {  // columns of one packed weight, the work of one task
    kernels::PackedMatrix<T>* weight;
    Index begin, end;
  };

  /// Numbers of activations that a pass is to hold at most.
  static constexpr Index kMost = (Index{98} << 20) / static_cast<Index>(sizeof(T));

  Plan plan_of(const Pass& pass, bool training);
  void lay_out(Arena<T>& arena, const Pass& pass);
  Index sequences_at_once(const Pass& batch, bool training);
  bool in_parts() const { return plan_.part > 0; }
  Keep keep() const { return !plan_.training ? Keep::nothing : in_parts() ? Keep::all : Keep::costly; }
  Keep keep_of(Index block) const {
    return block < plan_.lowest ? Keep::nothing : block < plan_.lowest + plan_.repeated ? Keep::least : keep();
  }
  Index sequence_size(const Pass& batch, bool training);
  Index repeated_blocks(const Pass& pass, const Plan& plan);
  Plan whole_plan(const Pass& pass, bool training);
  Index lay_out_nowhere(const Pass& pass, const Plan& plan);
  void each_weight(const WeightVisitor<T>& visitor);
  Index sequences_per_part(const Pass& pass);
  Index lowest_trained() const;
  void place(const Pass& pass);
  void plan_packing(Arena<T>& arena);
  void plan_activations(Arena<T>& arena, const Pass& pass);
  void plan_gradients(Arena<T>& arena, const Pass& pass);
  void plan_tasks();
  void pack_weights();
  void begin(const Pass& whole);

  const ParameterSet<T>& set_;
  StackEnds<T>& ends_;
  Index width_;
  std::deque<Block<T>> blocks_;
  std::vector<std::uint64_t> first_numbers_;  // of each block's parameters
  Arena<T> arena_;
  Plan plan_, measured_;
  Index measured_size_ = 0;  // of a pass by the plan measured_, in numbers
  Workspace<T> work_;
  std::vector<Packing> packing_;
  GradientTasks tasks_;
  std::vector<Index> positions_, begins_;  // (T) and none, or (B, T) each where documents share rows
  Rows<T> input_, doutput_, dinput_;
  Buffer<T> cache_;
};

/// Calls body(group) for passes of their own over groups of `size` of the batch's sequences, in their order; the last one
/// may have fewer.
template <class Body>
void each_group(const Pass& batch, Index size, Body&& body) {
  for (Index begin = 0; begin == 0 || begin < batch.batch; begin += size)
    body(batch.group(begin, std::min(size, batch.batch - begin)));
}

template <class T>
template <class Seen>
void Stack<T>::forward(const Pass& pass, const Seen& seen) {
  Index number = 0;
  for (auto& block : blocks_) {
    block.forward(pass);
    seen(number++, block.output().at(pass));
  }
}

template <class T>
template <class Join>
void Stack<T>::backward(const Pass& pass, const Join& join) {
  auto number = static_cast<Index>(blocks_.size());
  for (auto block = blocks_.rbegin(); block != blocks_.rend() - plan_.lowest; ++block) {
    join(--number, block->output().at(pass), block->doutput().at(pass));
    block->backward(pass, [&](auto gradients) { due(gradients); });
    if (pass.final_from && !in_parts())
      (*pass.final_from)(set_.final_from(number, first_numbers_[static_cast<std::size_t>(number)]));
  }
}

template <class T>
template <class Body>
void Stack<T>::each_part(const Pass& whole, Body&& body) {
  Pass pass = placed(whole);
  begin(pass);
  if (!in_parts()) return body(pass);
  pack_weights();
  pass.packed = true;
  parallel_blocks(whole.batch, plan_.part, [&](Index begin, Index end) { body(pass.part(begin, end - begin)); });
}

}  // namespace loopos
