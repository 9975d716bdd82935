"""GPT-NeoX (Pythia): layer norm, rotary positions on a part of each head, attention and feed-forward side by side; the
rows of query, key and value stand head by head."""

from __future__ import annotations

import re
from typing import Any

from loopos.choices import named_there
from loopos.config import ModelConfig
from loopos.hf.known import HARMLESS
from loopos.hf.reader import Settings
from loopos.hf.rotary import rotary, rotary_json
from loopos.hf.slots import Names

from . import decoder
from .family import Family

_NAMES = Names(
    "gpt_neox.layers.{}.",
    {
        "tok_embed": ("gpt_neox.embed_in",),
        "attn_norm": ("input_layernorm",),
        "attn.qkv_proj": ("attention.query_key_value",),
        "attn.o_proj": ("attention.dense",),
        "mlp_norm": ("post_attention_layernorm",),
        "mlp.up_proj": ("mlp.dense_h_to_4h",),
        "mlp.down_proj": ("mlp.dense_4h_to_h",),
        "final_norm": ("gpt_neox.final_layer_norm",),
        "lm_head": ("embed_out",),
    },
    by_head=True,
)
_NEUTRAL = {key: values for key, values in decoder.ALIKE.items() if key not in ("attention_dropout", "mlp_bias")} | {
    "attention_probs_dropout_prob": (0, 0.0),
    "hidden_dropout_prob": (0, 0.0),
}


def _read(settings: Settings) -> dict[str, Any]:
    fields = dict(
        vocab_size=settings.size("vocab_size"),
        context_length=settings.size("max_position_embeddings"),
        n_layer=settings.size("num_hidden_layers"),
        n_head=settings.size("num_attention_heads"),
        d_model=settings.size("hidden_size"),
        d_ff=settings.size("intermediate_size"),
        norm_eps=settings.positive("layer_norm_eps", 1e-5),
        position="rope",
        tie_embeddings=settings.flag("tie_word_embeddings", False),
        dropout=settings.probability("hidden_dropout", 0.0),
        parallel_residual=settings.flag("use_parallel_residual", True),
    ) | decoder.biased(settings, [decoder.ATTENTION_BIAS], default=True)
    decoder.all_full(settings, fields["n_layer"])
    fields |= rotary(settings, fields, theta_key="rotary_emb_base", partial=("rotary_pct", 0.25))
    turned = (fields["rotary_dim"] or fields["d_model"] // fields["n_head"]) / (fields["d_model"] // fields["n_head"])
    # transformers 4 wrote the two twice
    for key, value in (("rope_theta", fields["rope_theta"]), ("partial_rotary_factor", turned)):
        if (twice := settings.take(key)) not in (None, value):
            raise settings.unsupported(key, twice, f"it contradicts the base or the part that is turned, {value}")
    return fields


def _write(c: ModelConfig) -> dict[str, Any]:
    part = c.rotary_width / c.head_width
    rope = rotary_json(c, theta_key="rotary_emb_base")
    return rope | {
        "rope_parameters": rope["rope_parameters"] | {"partial_rotary_factor": part},
        "rotary_pct": part,
        "max_position_embeddings": c.context_length,
        "hidden_size": c.d_model,
        "intermediate_size": c.d_ff,
        "num_hidden_layers": c.n_layer,
        "num_attention_heads": c.n_head,
        "layer_norm_eps": c.norm_eps,
        "hidden_dropout": c.dropout,
        "attention_dropout": c.dropout,
        "use_parallel_residual": c.parallel_residual,
        "attention_bias": c.attention_bias == "all",
        "tie_word_embeddings": c.tie_embeddings,
    }


GPT_NEOX = Family(
    model_type="gpt_neox",
    title="GPT-NeoX",
    architecture="GPTNeoXForCausalLM",
    activations={"gelu": "gelu"} | named_there(gated=False),
    read=_read,
    write=_write,
    names=_NAMES,
    prefix="gpt_neox.",
    # the causal mask and the rotary frequencies, as older files have them
    buffers=re.compile(
        r"gpt_neox\.(layers\.\d+\.attention\.(bias|masked_bias|rotary_emb\.inv_freq)|rotary_emb\.inv_freq)"
    ),
    harmless=HARMLESS | {"attention_dropout", "classifier_dropout"},
    neutral=_NEUTRAL,
    head="embed_out.weight",
    aliases={"lm_head.weight": "embed_out.weight"},
)
