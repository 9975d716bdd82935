#include "models/gpt_config.h"

#include <algorithm>
#include <cmath>

namespace loopos {

NormConfig norm_config(const BlocksConfig& c) {
  return {c.norm, c.bias, c.norm_unit_offset, c.norm_eps};
}

std::vector<BlockConfig> block_configs(const BlocksConfig& c, const Visibility& visibility) {
  const double out_std = kStd / std::sqrt(2.0 * static_cast<double>(std::max<std::size_t>(1, c.layers.size())));
  std::vector<BlockConfig> blocks;
  for (const auto& layer : c.layers) {
    BlockConfig block{};
    block.width = c.d_model;
    block.placement = c.placement;
    block.parallel = c.parallel_residual;
    block.norm = norm_config(c);
    auto& attention = block.attention;
    attention.width = c.d_model;
    attention.heads = c.n_head;
    attention.kv_heads = c.n_kv_head;
    attention.head_width = c.head_width;
    attention.visibility = visibility;
    attention.visibility.window = layer.window;
    attention.scale = c.attention_scale > 0 ? c.attention_scale : 1 / std::sqrt(static_cast<double>(c.head_width));
    attention.qkv_bias = c.qkv_bias;
    attention.out_bias = c.out_bias;
    attention.qk_norm = {c.qk_norm, c.norm_unit_offset, c.norm_eps};
    attention.frequencies = layer.frequencies;
    attention.rope_factor = layer.rope_factor;
    attention.std = kStd;
    attention.out_std = out_std;
    block.mlp = {c.d_model, c.d_ff, c.activation, c.mlp_bias, kStd, out_std};
    blocks.push_back(std::move(block));
  }
  return blocks;
}

void add_cross_attention(std::vector<BlockConfig>& blocks, Index first_dropout_site) {
  Index first = 0, site = first_dropout_site;
  for (auto& block : blocks) {
    const AttentionConfig& own = block.attention;
    block.cross = {own.width,    own.heads,    own.kv_heads, own.head_width, first,      own.scale,
                   own.qkv_bias, own.out_bias, site,         own.std,        own.out_std};
    first += block.cross->memory_width();
    site += 2;  // probabilities and the branch
  }
}

}  // namespace loopos
