"""OLMo 2: norms after each branch in place of before, and on all heads of queries and keys together."""

from __future__ import annotations

from typing import Any

from loopos.config import ModelConfig
from loopos.hf.reader import Settings

from . import decoder

_MODULES = {name: files for name, files in decoder.MODULES.items() if name not in ("attn_norm", "mlp_norm")} | {
    "attn_post_norm": ("post_attention_layernorm",),
    "mlp_post_norm": ("post_feedforward_layernorm",),
}


def _read(settings: Settings) -> dict[str, Any]:
    fields = decoder.read(settings, [decoder.ATTENTION_BIAS], norm_eps=1e-5)
    decoder.all_full(settings, fields["n_layer"])
    return fields | {"qk_norm": "full", "norm_placement": "post"}


def _write(c: ModelConfig) -> dict[str, Any]:
    return decoder.write(c, [decoder.ATTENTION_BIAS])


OLMO2 = decoder.family(
    model_type="olmo2",
    title="OLMo 2",
    architecture="Olmo2ForCausalLM",
    read=_read,
    write=_write,
    modules=_MODULES,
)
