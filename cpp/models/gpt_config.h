// What a decoder-only transformer is made of, and what that is for each of its blocks; and an encoder of pictures.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "layers/block.h"
#include "layers/patch_embedding.h"

namespace loopos {

/// What layers of one model may differ in.
struct LayerConfig {
  Index window;                     // 0: none
  std::vector<double> frequencies;  // of rotary positions; empty: none
  double rope_factor;               // on cos and sin
};

/// What the blocks of a stack and the norm behind them are made of.
struct BlocksConfig {
  Index n_head, n_kv_head, head_width, d_model, d_ff;
  std::vector<LayerConfig> layers;
  NormChoice norm;
  NormPlacement placement;
  QkNormKind qk_norm;
  FeedForwardActivation activation;
  bool bias, qkv_bias, out_bias, mlp_bias, norm_unit_offset, parallel_residual;
  double dropout, norm_eps;
  double attention_scale;  // 0: 1 / sqrt(head_width)
};

/// An encoder of pictures: its blocks, in which every row sees all of its picture.
struct ImageConfig : BlocksConfig {
  PatchGrid grid;
  Index num_classes;    // of a classifier's head; 0: none
  bool pools_patches;   // it is given the mean over the patches; else the row of the class token
  Index decoder_width;  // of the projection for a decoder, into its stream or what its blocks attend to; 0: none

  /// Width of the rows that it gives.
  Index outputs() const { return decoder_width ? decoder_width : d_model; }
};

/// How a decoder sees pictures: their rows stand before the tokens, or a branch of each block attends to them.
enum class Fusion { prefix, cross };
struct FusionChoice {
  const char* name;
  Fusion fusion;
};
constexpr FusionChoice kFusions[] = {{"prefix", Fusion::prefix}, {"cross", Fusion::cross}};

struct GptConfig : BlocksConfig {
  Index vocab_size, num_labels, context_length;
  Storage weights;  // of the projections; of the token tables: table_storage(weights)
  bool rope, tie_embeddings;
  double embedding_scale;
  std::optional<ImageConfig> pictures;  // one for each sequence
  Fusion fusion = Fusion::prefix;

  /// What the head gives for each position: a score for each of num_labels classes, or where that is 0 a logit for each
  /// entry of the vocabulary.
  Index outputs() const { return num_labels > 0 ? num_labels : vocab_size; }
  /// Rows before the tokens.
  Index prefix() const { return pictures && fusion == Fusion::prefix ? pictures->grid.rows() : 0; }
  bool attends() const { return pictures && fusion == Fusion::cross; }
};

constexpr double kStd = 0.02;  // of initial weights

NormConfig norm_config(const BlocksConfig& config);
/// visibility: of every block, but for a layer's window.
std::vector<BlockConfig> block_configs(const BlocksConfig& config, const Visibility& visibility);
/// Gives every block cross-attention with heads as those of its self-attention. Their dropout has sites from this on.
void add_cross_attention(std::vector<BlockConfig>& blocks, Index first_dropout_site);

}  // namespace loopos
