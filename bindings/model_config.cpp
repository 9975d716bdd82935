#include "model_config.h"

#include <pybind11/stl.h>

#include "ops/modulate.h"
#include "stored.h"

namespace loopos::bind {
namespace {

struct PositionChoice {
  const char* name;
  bool rope;
};
constexpr PositionChoice kPositions[] = {{"learned", false}, {"rope", true}};

struct AttentionBiasChoice {
  const char* name;
  bool qkv, out;
};
constexpr AttentionBiasChoice kAttentionBiases[] = {{"all", true, true}, {"qkv", true, false}, {"none", false, false}};

template <class Table>
py::tuple names_of(const Table& table) {
  py::list names;
  for (const auto& entry : table) names.append(entry.name);
  return py::tuple(names);
}

void read_blocks(const py::dict& d, BlocksConfig& c) {
  const auto number = [&](const char* key) { return d[key].cast<Index>(); };
  c.n_head = number("n_head");
  c.n_kv_head = number("n_kv_head");
  c.d_model = number("d_model");
  c.d_ff = number("d_ff");
  c.head_width = number("head_width");
  for (const auto& each : d["layers"]) {
    const auto layer = each.cast<py::dict>();
    c.layers.push_back({layer["window"].cast<Index>(), layer["frequencies"].cast<std::vector<double>>(),
                        layer["rope_factor"].cast<double>()});
  }
  c.norm = choice("norm", d["norm"].cast<std::string>(), kNorms);
  c.activation = feed_forward_activation(d["activation"].cast<std::string>());
  c.placement = choice("norm_placement", d["norm_placement"].cast<std::string>(), kNormPlacements);
  c.qk_norm = choice("qk_norm", d["qk_norm"].cast<std::string>(), kQkNorms).kind;
  const auto biases = choice("attention_bias", d["attention_bias"].cast<std::string>(), kAttentionBiases);
  c.qkv_bias = biases.qkv;
  c.out_bias = biases.out;
  c.mlp_bias = d["mlp_bias"].cast<bool>();
  c.norm_unit_offset = d["norm_unit_offset"].cast<bool>();
  c.parallel_residual = d["parallel_residual"].cast<bool>();
  c.bias = d["bias"].cast<bool>();
  c.dropout = d["dropout"].cast<double>();
  c.norm_eps = d["norm_eps"].cast<double>();
  c.attention_scale = d["attention_scale"].cast<double>();
}

}  // namespace

ImageConfig image_config_from(const py::dict& d) {
  const auto number = [&](const char* key) { return d[key].cast<Index>(); };
  ImageConfig c{};
  read_blocks(d["blocks"].cast<py::dict>(), c);
  c.grid = {number("height"), number("width"), number("channels"), number("patch_size"), number("class_token")};
  c.num_classes = number("num_classes");
  c.pools_patches = d["pools_patches"].cast<bool>();
  c.decoder_width = number("decoder_width");
  return c;
}

SnapshotConfig snapshot_config_from(const py::dict& d) {
  SnapshotConfig c{};
  read_blocks(d["blocks"].cast<py::dict>(), c);
  c.channels = d["channels"].cast<Index>();
  c.outputs = d["outputs"].cast<Index>();
  c.pooled = d["pooled"].cast<bool>();
  c.learns_blend = d["learns_blend"].cast<bool>();
  c.blend_logit = d["blend_logit"].cast<double>();
  return c;
}

GptConfig config_from(const py::dict& d) {
  const auto number = [&](const char* key) { return d[key].cast<Index>(); };
  GptConfig c{};
  read_blocks(d, c);
  c.vocab_size = number("vocab_size");
  c.num_labels = number("num_labels");
  c.context_length = number("context_length");
  c.rope = choice("position", d["position"].cast<std::string>(), kPositions).rope;
  c.tie_embeddings = d["tie_embeddings"].cast<bool>();
  c.embedding_scale = d["embedding_scale"].cast<double>();
  if (const py::object weights = d["weights"]; !weights.is_none()) c.weights = storage_of(weights.cast<std::string>());
  if (d.contains("pictures")) {
    c.pictures = image_config_from(d["pictures"].cast<py::dict>());
    c.fusion = choice("fusion", d["fusion"].cast<std::string>(), kFusions).fusion;
  }
  return c;
}

py::dict choices() {
  py::dict choices;
  choices["activation"] = names_of(feed_forward_activations());
  choices["fusion"] = names_of(kFusions);
  choices["norm"] = names_of(kNorms);
  choices["position"] = names_of(kPositions);
  choices["attention_bias"] = names_of(kAttentionBiases);
  choices["qk_norm"] = names_of(kQkNorms);
  choices["norm_placement"] = names_of(kNormPlacements);
  choices["gate"] = names_of(gate_kinds());
  return choices;
}

}  // namespace loopos::bind
