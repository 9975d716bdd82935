// The decoder-only transformer: embedding, pre-norm blocks, final norm, head. It holds the order of layers and nothing
// numeric; forward and backward are mirrored lists of calls.
#pragma once

#include <vector>

#include "layers/embedding.h"
#include "layers/head.h"
#include "layers/mlp.h"
#include "layers/norm.h"
#include "layers/residual.h"
#include "layers/self_attention.h"

namespace loopos {

struct GptConfig {
  Index vocab_size, context_length, n_layer, n_head, n_kv_head, d_model, d_ff;
  bool rms_norm, rope, bias, tie_embeddings;
  std::optional<Activation> activation;  // none: swiglu
  double dropout, norm_eps, rope_theta;
};

template <class T>
struct Block {
  Norm<T> attn_norm;
  SelfAttention<T> attn;
  Residual<T> attn_residual;
  Norm<T> mlp_norm;
  Mlp<T> mlp;
  Residual<T> mlp_residual;
  // activations (rows, C): the normed input, the stream after attention, its norm, and the stream at the end
  T *normed = nullptr, *middle = nullptr, *normed_middle = nullptr, *out = nullptr;
  // gradients kept for the parameters: of `out`, `middle` and the block's input (rows, C); of the two branches (rows,
  // C), with dropout; of the up projection's and the qkv projection's results; what the norms leave
  T *dout = nullptr, *dmiddle = nullptr, *dinput = nullptr, *mlp_branch = nullptr, *attn_branch = nullptr,
    *dup = nullptr, *dqkv = nullptr, *mlp_slots = nullptr, *attn_slots = nullptr;
  KeyValueCache<T> cache;
};

template <class T>
class Gpt {
 public:
  Gpt(const GptConfig& config, std::uint64_t seed);

  const GptConfig& config() const { return config_; }
  ParameterSet<T>& parameters() { return set_; }

  /// logits (B, T, V) of ids (B, T).
  void forward(Index batch, Index time, const Index* ids, T* logits);
  /// Sum of the losses of ids (B, T) against targets (B, T), and how many count.
  LossSum loss(Index batch, Index time, const Index* ids, const Index* targets, Index ignore_index);
  /// Forward and backward: gradients = scale * d(sum of losses), or += with `add`. `pass` brings batch, time, dropout,
  /// keys and probe.
  LossSum accumulate(const Pass& pass, const Index* ids, const Index* targets, Index ignore_index, double scale,
                     bool add);

  /// Empties the cache for generation of up to `length` positions.
  void start_generation(Index batch, Index length);
  /// logits (B, V) after the last of `time` further tokens ids (B, T): the whole prompt at first, then one token a
  /// call.
  void next_logits(Index time, const Index* ids, T* logits);
  Index cache_batch() const { return cache_batch_; }
  Index cache_left() const { return cache_length_ - cache_used_; }
  bool cache_empty() const { return cache_used_ == 0; }

 private:
  void each_weight(WeightVisitor<T> visitor);
  Index sequences_per_part(const Pass& pass) const;
  void prepare(const Pass& pass, bool training);
  void plan_activations(Arena<T>& arena, const Pass& pass, bool training);
  bool in_place(const Pass& pass) const { return config_.activation && !pass.probe; }
  Index wide(const Pass& pass) const;
  void plan_gradients(Arena<T>& arena, const Pass& pass);
  void plan_panels(Arena<T>& arena, bool training);
  template <class Body>
  void each_part(const Pass& pass, Body&& body);

  void run_forward(const Pass& pass, const Index* ids);
  void run_backward(const Pass& pass);
  void block_backward(Block<T>& block, const T* input, const Pass& pass);
  void kept_gradients(const Pass& pass);
  /// What flows into block i, and where its gradient goes.
  const T* input(std::size_t i) const { return i == 0 ? embedded_ : blocks_[i - 1].out; }

  GptConfig config_;
  ParameterSet<T> set_;
  Embedding<T> embedding_;
  std::vector<Block<T>> blocks_;
  Norm<T> final_norm_;
  Head<T> head_;

  Arena<T> arena_;
  Index planned_batch_ = -1, planned_time_ = -1;
  bool planned_training_ = false, planned_dropout_ = false, planned_probe_ = false;
  // Small models: the batch is cut into parts of so many sequences, each of which one thread takes through all layers,
  // forward and backward, and the weights are packed beforehand. 0: the operations are cut instead. Same bits.
  Index part_ = 0;
  bool in_parts() const { return part_ > 0; }
  struct Packing {
    kernels::PackedMatrix<T>* panels;
    Index begin, end;
  };
  std::vector<Packing> packing_;
  Index panels_size_ = 0;
  std::vector<Index> positions_;
  T *embedded_ = nullptr, *normed_ = nullptr;  // activations
  T *dnormed_ = nullptr, *dhidden_ = nullptr;  // gradients that no parameter needs
  T *dlast_ = nullptr, *dembedded_ = nullptr, *final_slots_ = nullptr;

  Buffer<T> cache_memory_;
  Index cache_batch_ = 0, cache_length_ = 0, cache_used_ = 0;
};

}  // namespace loopos
