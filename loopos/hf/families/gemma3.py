"""Gemma 3, its text model: a scaled embedding, norms of 1 + weight before and after each branch and on each head of
queries and keys, and layers with a window and a rotary base of their own."""

from __future__ import annotations

from typing import Any

from loopos.choices import named_there
from loopos.config import ModelConfig
from loopos.errors import CheckpointError
from loopos.hf.reader import Settings
from loopos.hf.rotary import Rope, parse, rotary_json

from . import decoder

_NEUTRAL = {key: values for key, values in decoder.ALIKE.items() if key != "mlp_bias"} | {
    "attn_logit_softcapping": (),
    "final_logit_softcapping": (),
    "use_bidirectional_attention": (False,),
}
_ACTIVATIONS = {"gelu_pytorch_tanh": "geglu_tanh"} | named_there(gated=True)
_MODULES = decoder.MODULES | {
    "attn_post_norm": ("post_attention_layernorm",),
    "mlp_norm": ("pre_feedforward_layernorm",),
    "mlp_post_norm": ("post_feedforward_layernorm",),
}
_GLOBAL, _LOCAL, _PATTERN, _SCALAR = 1e6, 1e4, 6, 256  # defaults


def _read(settings: Settings) -> dict[str, Any]:
    fields = decoder.sizes(settings, n_kv_head=4, tied=True, head_dim=256)
    n_layer = fields["n_layer"]
    window = settings.size("sliding_window", optional=True, absent=4096)
    pattern = settings.size("sliding_window_pattern", optional=True) or _PATTERN
    by_pattern = tuple("sliding" if (layer + 1) % pattern else "full" for layer in range(n_layer))
    types = decoder.layer_types(settings, n_layer) or by_pattern
    scalar = settings.positive("query_pre_attn_scalar", _SCALAR)
    rotation = _rotary(settings)
    if "sliding" not in types:
        del rotation["local_rope_theta"]
    return (
        fields
        | decoder.sliding(settings, window, types)
        | rotation
        | decoder.biased(settings, [decoder.ATTENTION_BIAS])
        | dict(
            qk_norm="head",
            norm_placement="both",
            norm_unit_offset=True,
            embedding_scale=fields["d_model"] ** 0.5,
            attention_scale=scalar**-0.5,
        )
    )


def _rotary(settings: Settings) -> dict[str, Any]:
    """The two bases and the scaling of the global one: rope_parameters has an object for each type of layers; older
    files have rope_theta, rope_local_base_freq and a rope_scaling of the global layers."""
    theta = settings.positive("rope_theta", _GLOBAL)
    local = settings.positive("rope_local_base_freq", _LOCAL)
    new, old = settings.table("rope_parameters"), settings.table("rope_scaling")
    if strange := [key for key in new if key not in (decoder.FULL, decoder.SLIDING)]:
        what = f"it must hold {decoder.FULL} and {decoder.SLIDING}"
        raise settings.unsupported(f"rope_parameters.{strange[0]}", new[strange[0]], what)
    for key, value in new.items():
        if value is not None and type(value) is not dict:
            raise CheckpointError(settings.path, f"rope_parameters.{key} must be an object")
    full = parse(settings, f"rope_parameters.{decoder.FULL}", new.get(decoder.FULL) or {})
    sliding = parse(settings, f"rope_parameters.{decoder.SLIDING}", new.get(decoder.SLIDING) or {}, ())
    scaled = parse(settings, "rope_scaling", old)
    if full.scaling is not None and old and scaled.scaling != full.scaling:
        what = f"it contradicts rope_parameters.{decoder.FULL}"
        raise settings.unsupported("rope_scaling", old, what)
    _whole(settings, full, sliding, scaled)
    return {
        "rope_theta": next(base for base in (scaled.theta, full.theta, theta) if base is not None),
        "local_rope_theta": local if sliding.theta is None else sliding.theta,
        "rope_scaling": full.scaling or scaled.scaling,
    }


def _whole(settings: Settings, *ropes: Rope) -> None:
    for rope in ropes:
        if rope.partial not in (None, 1.0):
            raise settings.unsupported("partial_rotary_factor", rope.partial, "it must be 1")


def _write(c: ModelConfig) -> dict[str, Any]:
    old = rotary_json(c)
    types = decoder.layer_types_json(c)
    local = c.local_rope_theta or (c.rope_theta if decoder.SLIDING in types else _LOCAL)
    return (
        decoder.sizes_json(c)
        | old
        | decoder.biased_json(c, [decoder.ATTENTION_BIAS])
        | {
            "query_pre_attn_scalar": _scalar(c),
            "sliding_window": c.sliding_window or c.context_length,  # there it is read where no layer has it, too
            "layer_types": types,
            "rope_parameters": {
                decoder.FULL: old["rope_parameters"],
                decoder.SLIDING: {"rope_type": "default", "rope_theta": local},
            },
            "rope_local_base_freq": local,
            "attn_logit_softcapping": None,
            "final_logit_softcapping": None,
            "use_bidirectional_attention": False,
        }
    )


def _scalar(c: ModelConfig) -> float:
    """An integer, as transformers wants it, where that gives the same scale."""
    scale = c.attention_scale or c.head_width**-0.5
    whole = round(scale**-2)
    return whole if whole and whole**-0.5 == scale else scale**-2


GEMMA3 = decoder.family(
    model_type="gemma3_text",
    title="Gemma 3",
    architecture="Gemma3ForCausalLM",
    activations=_ACTIVATIONS,
    activation_key="hidden_activation",
    read=_read,
    write=_write,
    modules=_MODULES,
    neutral=_NEUTRAL,
)
