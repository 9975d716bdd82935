// The decoder-only transformer: embedding, stack of blocks, norm, head. It holds the order of layers and
// nothing numeric; forward and backward are mirrored lists of calls.
//
// With pictures it is a captioner. The rows of an encoder stand before the tokens of each sequence: they see each other,
// and every token sees all of them; norm, head and loss are of the tokens alone. Or the encoder's rows are a memory, to
// which a branch of every block attends.
#pragma once

#include <algorithm>
#include <memory>
#include <optional>
#include <vector>

#include "layers/adapter.h"
#include "layers/embedding.h"
#include "layers/head.h"
#include "layers/stack.h"
#include "layers/streams.h"
#include "models/gpt_config.h"
#include "models/image_encoder.h"
#include "ops/prepend.h"

namespace loopos {

/// What a model reads of a batch.
template <class T>
struct Inputs {
  const Index* ids = nullptr;  // (B, T)
  const T* images = nullptr;   // (B, height, width, channels), where it has pictures
};

template <class T>
class Gpt : private StackEnds<T> {
 public:
  /// Without a seed the weights are not initialised.
  Gpt(const GptConfig& config, std::optional<std::uint64_t> seed);
  Gpt(const Gpt&) = delete;  // the stack refers to it
  Gpt& operator=(const Gpt&) = delete;

  const GptConfig& config() const { return config_; }
  ParameterSet<T>& parameters() { return set_; }

  /// Low-rank parts of projections, named as their weights are. While they are there the model's own parameters are
  /// frozen. They, and enable, end a generation: what it holds was computed otherwise.
  void add_adapter(const std::vector<LowRankSpec>& parts) {
    adapter_.add(parts);
    end_generation();
  }
  /// Another kind of adapter (layers/modulation.h), of every block; all else is as for low-rank parts.
  void add_modulation(const ModulationConfig& config) {
    adapter_.modulate(config);
    end_generation();
  }
  void remove_adapter() {
    adapter_.remove();
    end_generation();
  }
  /// off: computes as without it.
  void enable_adapter(bool on) {
    adapter_.enable(on);
    end_generation();
  }
  /// Whether p is a weight of the model itself, and frozen because an adapter is there.
  bool freezes(const Parameter<T>& p) const { return adapter_.freezes(p); }

  /// logits (B, T, V) of ids (B, T). `pass` brings batch, time and documents.
  void forward(const Pass& pass, const Inputs<T>& in, T* logits);
  /// What the head is given: the result of the final norm, (B, T, C).
  void hidden(const Pass& pass, const Inputs<T>& in, T* result);
  /// (L, B, T, C): what flows out of each block, of the last one what the final norm makes of it. Without pictures.
  void hidden_states(const Pass& pass, const Inputs<T>& in, T* result);
  /// Sum of the losses of ids (B, T) against targets (B, T), and how many count.
  LossSum loss(const Pass& pass, const Inputs<T>& in, const Index* targets, const CrossEntropyOptions& options);
  /// The loss of each position (B, T) of the last loss() or accumulate(); 0 where the target does not count.
  const std::vector<double>& losses() const { return head_.losses(); }
  /// Forward and backward: gradients = scale * d(sum of losses), or += with `add`. `pass` brings batch, time, documents,
  /// dropout, keys and probe. teaching: what is learned of a teacher, or null.
  LossSum accumulate(const Pass& pass, const Inputs<T>& in, const Index* targets, const CrossEntropyOptions& options,
                     double scale, bool add, const Teaching<T>* teaching = nullptr);
  /// The same for a loss that is worked out elsewhere, from all of the batch at once. Where the batch is taken in several
  /// groups, each is taken forward twice, with the same dropout.
  LossSum accumulate_with(const Pass& pass, const Inputs<T>& in, const Index* targets,
                          const CrossEntropyOptions& options, bool add, const Between<T>& between);
  const Weight<T>& head_weight() const { return head_.weight(); }

  /// Bytes that a pass over ids (B, T) takes beside weights and gradients, with a tile of logits where it is scored and
  /// one of a teacher's where it is compared. Plans, but takes none of it.
  double workspace_bytes(const Pass& pass, bool training);
  /// Bytes of workspace that earlier passes have left.
  double held_bytes() const {
    return static_cast<double>(stack_.held()) * sizeof(T) + (pictures_ ? pictures_->held_bytes() : 0);
  }

  /// Keys and values of the tokens that generation has seen: `used` of `length` positions in each of `batch` rows, of
  /// which the first padding[b] fill up.
  struct Cache {
    Index batch = 0, length = 0, used = 0;
    std::vector<Index> padding;  // empty: none
  };
  /// Empties the cache for generation of up to `length` positions. padding (batch), or null. images: `pictures` of them,
  /// each for batch / pictures neighbouring rows; what the model sees of them is in the cache already.
  void start_generation(Index batch, Index length, const Index* padding, const T* images = nullptr, Index pictures = 0);
  /// Makes room for `length` positions, no fewer than are used; the cache keeps what it has.
  void extend_generation(Index length);
  /// logits (B, V) after the last of `time` further tokens ids (B, T), for which there is room.
  void next_logits(Index time, const Index* ids, T* logits);
  /// The cache forgets all but its first `used` positions.
  void rewind(Index used) { cache_.used = used; }
  /// Row b goes on from what row from[b] has seen, as in a search that gives up some rows for others.
  void reorder(const std::vector<Index>& from) {
    stack_.reorder_cache(from, config_.prefix() + cache_.length, config_.prefix() + cache_.used);
    const std::vector<Index> before = cache_.padding;
    for (std::size_t b = 0; b < before.size(); ++b) cache_.padding[b] = before[static_cast<std::size_t>(from[b])];
    if (config_.attends()) reorder_memory(from);
  }
  const Cache& cache() const { return cache_; }
  /// How often a generation was started: by it a caller knows whether the cache is still the one it began.
  Index generations() const { return generations_; }

 private:
  void end_generation() {
    cache_ = {};
    ++generations_;
  }
  /// A pass over the rows of its stack: those of pictures, and the tokens.
  Pass with_prefix(const Pass& tokens) const {
    Pass pass = tokens;
    pass.prefix = config_.prefix();
    pass.time += pass.prefix;
    return pass;
  }
  Pass tokens_of(const Pass& pass) const { return pass.of_tokens(config_.prefix()); }
  PrependShape prepended(const Pass& pass) const {
    return {pass.batch, pass.prefix, pass.time - pass.prefix, config_.d_model};
  }
  Index group_size(const Pass& all, bool training) {
    const Index most = stack_.group_size(all, training);
    return pictures_ ? std::min(most, pictures_->group_size(all, training)) : most;
  }
  bool pictures_train() const { return pictures_ && pictures_->trains(); }
  /// Whether rows of pictures stand before the tokens.
  bool prefixes() const { return config_.prefix() > 0; }
  /// What the stack gave of the tokens.
  const T* last(const Pass& pass) const {
    const Pass tokens = tokens_of(pass);
    return stack_.narrows() ? stack_.output(tokens) : prefixes() ? text_.at(tokens) : stack_.output(pass);
  }

  struct Unseen {
    void operator()(const Pass&, Index, const T*) const {}
  };
  struct Unjoined {
    void operator()(Index, const T*, T*) const {}
  };
  template <class Then, class Seen = Unseen>
  void run_forward(const Pass& whole, bool training, const Inputs<T>& in, Then&& then, const Seen& seen = {});
  template <class Join = Unjoined>
  void run_backward(const Pass& pass, const Join& join = {});
  void finish_gradients(const Pass& whole, const Inputs<T>& in);
  /// Of a row of the memory, what one block sees.
  Index block_memory() const { return memory_.width / static_cast<Index>(config_.layers.size()); }
  void look(const Pass& whole, bool training, const T* images);
  void see_pictures(const T* images, Index pictures);
  void remember_pictures(Index batch, const T* images, Index pictures);
  void reorder_memory(const std::vector<Index>& from);

  void plan(Arena<T>& arena, const Pass& pass, Keep keep, const Workspace<T>& work) override;
  void plan_gradients(Arena<T>& arena, const Pass& pass, const Workspace<T>& work) override;
  void visit_weights(const WeightVisitor<T>& visitor) override { head_.visit_weights(visitor); }
  void gradient_tasks(GradientTasks& tasks) override;
  bool can_part(const Pass& pass) const override { return head_.can_part(tokens_of(pass).rows()); }
  bool input_trains() const override { return embedding_.trains() || pictures_train(); }

  void head_gradients(const Pass& pass) {
    const Pass tokens = tokens_of(pass);
    head_.parameter_gradients(tokens, normed_.at(tokens));
  }
  void norm_gradients(const Pass& pass) {
    const Pass tokens = tokens_of(pass);
    norm_.parameter_gradients(tokens, last(pass), dnormed_.at(pass));
  }

  GptConfig config_;
  ParameterSet<T> set_;
  std::unique_ptr<ImageEncoder<T>> pictures_;
  Embedding<T> embedding_;
  Stack<T> stack_;
  Norm<T> norm_;
  Head<T> head_;
  Adapter<T> adapter_;
  Streams<T> streams_;
  // Result of the norm, and its gradient, both of the tokens alone. The second is in the workspace, where the rows of a
  // part begin where all of them do, the prefix counted: other parts are at work there.
  Rows<T> normed_, dnormed_;
  Rows<T> text_, dtext_;  // behind a prefix: the tokens' rows of the stack's input, then of an output that has all rows
  Memory<T> memory_;      // what cross-attention sees
  Buffer<T> remembered_;  // in generation: the memory of each row, and which picture it is of
  std::vector<Index> picture_of_;
  Cache cache_;
  Index generations_ = 0;
};

}  // namespace loopos
