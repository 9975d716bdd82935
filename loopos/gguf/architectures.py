"""Which GGUF architecture a configuration is: its settings from metadata and back, one row an architecture.

Names and meanings are those of llama.cpp's converter (convert_hf_to_gguf.py) and of its loader (src/models).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from loopos.config import ModelConfig
from loopos.rope import RopeScaling, frequencies

from .values import Metadata

GEMMA_PERIOD = 6  # gemma3: each sixth layer is global, the others local
_OF_GEMMA = ("embedding_scale", "attention_scale", "sliding_window", "layer_types", "local_rope_theta")
_GEMMA_27B_LAYERS = 62  # that model alone divides by the root of d_model / n_head
_UNSUPPORTED = ("expert_count", "attention.clamp_kqv", "attention.max_alibi_bias", "logit_scale", "embedding_scale")
# Llama 3.1 and 3.2 as published: factor, low, high, context of the first training
_LLAMA3 = tuple((factor, 1.0, 4.0, 8192) for factor in (8.0, 32.0))


@dataclass(frozen=True)
class Architecture:
    """fixed: what every configuration of it has; settings: the further fields of a metadata; misfit: what keeps a
    configuration from being one, where the architecture computes a field from others; written: the further metadata of
    a configuration.

    pairs: rope turns neighbours, not halves, so rows of q and k lie in another order than in LoopOS. norm_shift: is
    added to the norms' weights in the file."""

    name: str
    model_type: str
    fixed: dict[str, Any]
    settings: Callable[[Metadata, dict[str, Any]], dict[str, Any]] = lambda metadata, fields: {}
    misfit: Callable[[ModelConfig], list[str]] = lambda config: []
    written: Callable[[ModelConfig], dict[str, Any]] = lambda config: {}
    pairs: bool = False
    norm_shift: float = 0.0


_COMMON = {
    "norm": "rmsnorm",
    "position": "rope",
    "activation": "swiglu",
    "bias": False,
    "attention_bias": "none",
    "mlp_bias": False,
    "qk_norm": "none",
    "norm_placement": "pre",
    "norm_unit_offset": False,
    "parallel_residual": False,
    "embedding_scale": 1.0,
    "attention_scale": 0.0,
    "sliding_window": 0,
    "layer_types": (),
    "local_rope_theta": 0.0,
    "rope_layers": (),
    "dropout": 0.0,
}


def _gemma3(metadata: Metadata, fields: dict[str, Any]) -> dict[str, Any]:
    layers = range(1, fields["n_layer"] + 1)
    period = metadata.count("{arch}.attention.sliding_window_pattern", GEMMA_PERIOD)
    scale = (fields["d_model"] / fields["n_head"]) ** -0.5 if fields["n_layer"] == _GEMMA_27B_LAYERS else 0.0
    return {
        "embedding_scale": math.sqrt(fields["d_model"]),
        "attention_scale": scale,
        "sliding_window": metadata.count("{arch}.attention.sliding_window"),
        "layer_types": tuple("full" if layer % period == 0 else "sliding" for layer in layers),
        "local_rope_theta": metadata.real("{arch}.rope.freq_base_swa", 10000.0),
    }


def _gemma3_misfit(config: ModelConfig) -> list[str]:
    layers = range(1, config.n_layer + 1)
    expected = tuple("full" if layer % GEMMA_PERIOD == 0 else "sliding" for layer in layers)
    wrong = (
        [] if config.layer_types == expected else [f"each {GEMMA_PERIOD}th of layer_types 'full', all else 'sliding'"]
    )
    if not math.isclose(config.embedding_scale, math.sqrt(config.d_model), rel_tol=1e-6):
        wrong.append(f"embedding_scale {math.sqrt(config.d_model):g}, not {config.embedding_scale:g}")
    plain = config.head_width**-0.5
    scale = (config.d_model / config.n_head) ** -0.5 if config.n_layer == _GEMMA_27B_LAYERS else plain
    if not math.isclose(config.attention_scale or plain, scale, rel_tol=1e-6):
        wrong.append(f"attention_scale {scale:g}, not {config.attention_scale or plain:g}")
    if config.local_rope_theta != 10000:
        wrong.append(f"local_rope_theta 10000, not {config.local_rope_theta:g}")
    return wrong


ARCHITECTURES = {
    each.name: each
    for each in (
        Architecture("llama", "llama", _COMMON, pairs=True),
        Architecture("qwen2", "qwen2", _COMMON | {"attention_bias": "qkv"}),
        Architecture("qwen3", "qwen3", _COMMON | {"qk_norm": "head"}),
        Architecture(
            "gemma3",
            "gemma3_text",
            {name: value for name, value in _COMMON.items() if name not in _OF_GEMMA}
            | {"activation": "geglu_tanh", "qk_norm": "head", "norm_placement": "both", "norm_unit_offset": True},
            settings=_gemma3,
            misfit=_gemma3_misfit,
            written=lambda config: {"attention.sliding_window": config.sliding_window},
            norm_shift=1.0,
        ),
    )
}


def config_of(metadata: Metadata) -> ModelConfig:
    """The configuration that a file's metadata and tensors describe. CheckpointError for what is missing or malformed,
    ValueError naming what LoopOS does not compute."""
    path, tensors = metadata.container.path, metadata.container.tensors
    if metadata.arch not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise ValueError(f"{path}: the architecture {metadata.arch!r} is not supported; these are: {known}")
    architecture = ARCHITECTURES[metadata.arch]
    for key in _UNSUPPORTED:
        if metadata.container.metadata.get(f"{metadata.arch}.{key}"):
            raise ValueError(f"{path}: {metadata.arch}.{key} is not supported")
    if "token_embd.weight" not in tensors or len(tensors["token_embd.weight"].shape) != 2:
        raise metadata.refuse("the matrix token_embd.weight is missing")
    heads, width = metadata.count("{arch}.attention.head_count"), metadata.count("{arch}.embedding_length")
    head_dim = metadata.count("{arch}.attention.key_length", None)
    if metadata.count("{arch}.attention.value_length", head_dim) != head_dim:
        raise ValueError(f"{path}: heads of keys and values of different widths are not supported")
    fields = architecture.fixed | dict(
        vocab_size=tensors["token_embd.weight"].shape[0],
        context_length=metadata.count("{arch}.context_length"),
        n_layer=metadata.count("{arch}.block_count"),
        n_head=heads,
        d_model=width,
        n_kv_head=metadata.count("{arch}.attention.head_count_kv", heads),
        d_ff=metadata.count("{arch}.feed_forward_length"),
        head_dim=head_dim if head_dim is not None and head_dim * heads != width else 0,
        norm_eps=metadata.real("{arch}.attention.layer_norm_rms_epsilon"),
        rope_theta=metadata.real("{arch}.rope.freq_base", 10000.0),
        tie_embeddings="output.weight" not in tensors,
    )
    if fields["n_layer"] > len(tensors):
        raise metadata.refuse(f"{len(tensors)} tensors cannot make up {fields['n_layer']} layers")
    try:
        config = ModelConfig(**fields | architecture.settings(metadata, fields))
        turned = metadata.count("{arch}.rope.dimension_count", config.head_width)
        if turned != config.head_width:
            raise ValueError(f"rope over {turned} of {config.head_width} numbers of a head is not supported")
        return dataclasses.replace(config, rope_scaling=_scaling(metadata, config))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {str(error).removeprefix('ModelConfig: ')}") from error


def _scaling(metadata: Metadata, config: ModelConfig) -> RopeScaling | None:
    kind = metadata.text("{arch}.rope.scaling.type", "none")
    factors = metadata.container.tensors.get("rope_freqs.weight")
    if factors is not None:
        return _llama3(metadata, config, metadata.container.raw(factors, 0, 1).view("<f4")[0])
    factor = metadata.real("{arch}.rope.scaling.factor", 1.0)
    if kind == "none" or (kind == "linear" and factor == 1):
        return None
    if kind == "linear":
        return RopeScaling(rope_type="linear", factor=factor)
    if kind == "yarn":
        first = metadata.count("{arch}.rope.scaling.original_context_length")
        return RopeScaling(rope_type="yarn", factor=factor, original_max_position_embeddings=first)
    raise ValueError(f"the rope scaling {kind!r} is not supported")


def _llama3(metadata: Metadata, config: ModelConfig, factors: np.ndarray) -> RopeScaling:
    """rope_freqs.weight divides the frequencies: of llama3's scaling the published settings are tried."""
    for factor, low, high, first in _LLAMA3:
        scaling = RopeScaling(
            rope_type="llama3",
            factor=factor,
            low_freq_factor=low,
            high_freq_factor=high,
            original_max_position_embeddings=first,
        )
        if np.allclose(rope_factors(dataclasses.replace(config, rope_scaling=scaling)), factors, rtol=1e-5):
            return scaling
    raise ValueError("the factors in rope_freqs.weight are of no rope scaling that LoopOS knows")


def rope_factors(config: ModelConfig) -> np.ndarray:
    """By what the rotary frequencies of ``config`` are smaller than plain ones, (D / 2,) float32."""
    plain, scaled = (
        np.array(frequencies(each)["full"].frequencies)
        for each in (dataclasses.replace(config, rope_scaling=None), config)
    )
    return (plain / scaled).astype(np.float32)


def architecture_of(config: ModelConfig) -> Architecture:
    """ValueError naming, for the nearest one, the fields that keep ``config`` from being one."""
    best: tuple[Architecture, list[str]] | None = None
    for each in ARCHITECTURES.values():
        values = {name: getattr(config, name) for name in each.fixed}
        misfit = [
            f"{name} {value!r}, not {values[name]!r}" for name, value in each.fixed.items() if values[name] != value
        ]
        if config.rotary_width != config.head_width:
            misfit.append(f"rotary_dim 0 or {config.head_width}, not {config.rotary_dim}")
        misfit += each.misfit(config)
        if not misfit:
            return each
        if best is None or len(misfit) < len(best[1]):
            best = each, misfit
    assert best is not None
    raise ValueError(
        f"gguf.write: no architecture of GGUF has this configuration; {best[0].name} needs {'; '.join(best[1])}"
    )


def metadata_of(config: ModelConfig, architecture: Architecture) -> dict[str, Any]:
    """The metadata of a configuration, by key without the architecture in front: int, float and str."""
    values: dict[str, Any] = {
        "vocab_size": config.vocab_size,
        "context_length": config.context_length,
        "embedding_length": config.d_model,
        "block_count": config.n_layer,
        "feed_forward_length": config.d_ff,
        "attention.head_count": config.n_head,
        "attention.head_count_kv": config.n_kv_head,
        "attention.key_length": config.head_width,
        "attention.value_length": config.head_width,
        "attention.layer_norm_rms_epsilon": config.norm_eps,
        "rope.dimension_count": config.head_width,
        "rope.freq_base": config.rope_theta,
    }
    scaling = config.rope_scaling
    if scaling is not None and scaling.rope_type in ("linear", "yarn"):
        values |= {
            "rope.scaling.type": scaling.rope_type,
            "rope.scaling.factor": scaling.factor or _yarn_factor(config),
        }
    if scaling is not None and scaling.rope_type == "yarn":
        extra = ("beta_fast", "beta_slow", "attention_factor", "mscale", "mscale_all_dim", "truncate")
        if given := [name for name in extra if getattr(scaling, name) is not None]:
            raise ValueError(f"gguf.write: yarn with {', '.join(given)} cannot be written")
        values["rope.scaling.original_context_length"] = _first_context(config)
    return values | architecture.written(config)


def _first_context(config: ModelConfig) -> int:
    return (config.rope_scaling and config.rope_scaling.original_max_position_embeddings) or config.context_length


def _yarn_factor(config: ModelConfig) -> float:
    return config.context_length / _first_context(config)
