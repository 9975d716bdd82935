// What a decoder-only transformer is made of, and what that is for each of its blocks.
#pragma once

#include <vector>

#include "layers/block.h"

namespace loopos {

/// What layers of one model may differ in.
struct LayerConfig {
  Index window;                     // 0: none
  std::vector<double> frequencies;  // of rotary positions; empty: none
  double rope_factor;               // on cos and sin
};

struct GptConfig {
  Index vocab_size, num_labels, context_length, n_head, n_kv_head, head_width, d_model, d_ff;
  std::vector<LayerConfig> layers;
  NormChoice norm;
  NormPlacement placement;
  QkNormKind qk_norm;
  FeedForwardActivation activation;
  Storage weights;  // of the projections; of the token tables: table_storage(weights)
  bool rope, bias, qkv_bias, out_bias, mlp_bias, tie_embeddings, norm_unit_offset, parallel_residual;
  double dropout, norm_eps, embedding_scale;
  double attention_scale;  // 0: 1 / sqrt(head_width)

  /// What the head gives for each position: a score for each of num_labels classes, or where that is 0 a logit for each
  /// entry of the vocabulary.
  Index outputs() const { return num_labels > 0 ? num_labels : vocab_size; }
};

constexpr double kStd = 0.02;  // of initial weights

NormConfig norm_config(const GptConfig& config);
std::vector<BlockConfig> block_configs(const GptConfig& config);

}  // namespace loopos
