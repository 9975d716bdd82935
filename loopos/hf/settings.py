"""config.json of a Hugging Face folder, to and from a ModelConfig.

Every key is accounted for: translated, required to have the one value LoopOS computes, or known to have no effect on
the numbers. Any other key is refused by name: a setting is never ignored. Defaults are those of transformers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from loopos.checks import shown
from loopos.choices import named_in, written_in
from loopos.config import ModelConfig
from loopos.errors import CheckpointError

from .known import (
    HARMLESS,
    HARMLESS_GPT2,
    NEUTRAL_GPT2,
    NEUTRAL_LLAMA,
    QUANTIZATION,
    is_bookkeeping,
    quantized_with,
)


class _Settings:
    """The keys of one config.json, checked as they are taken."""

    def __init__(self, path: Path, values: dict[str, Any]):
        self.path, self.values, self.taken = path, values, set()

    def _take(self, key: str, default: Any = None) -> Any:
        self.taken.add(key)
        return self.values.get(key, default)

    def size(self, key: str, *, optional: bool = False) -> int | None:
        """A positive integer; optional ones may be null or absent."""
        value = self._take(key)
        if value is None and optional:
            return None
        if key not in self.values:
            raise CheckpointError(self.path, f"the required setting {key} is missing")
        if type(value) is not int or value < 1:
            raise CheckpointError(self.path, f"{key} must be an integer of at least 1, got {shown(value)}")
        return value

    def positive(self, key: str, default: float) -> float:
        return _number(self.path, key, self._take(key, default), "greater than 0", lambda x: 0 < x < math.inf)

    def probability(self, key: str, default: float) -> float:
        return _number(self.path, key, self._take(key, default), "at least 0 and below 1", lambda x: 0 <= x < 1)

    def flag(self, key: str, default: bool) -> bool:
        value = self._take(key, default)
        if type(value) is not bool:
            raise CheckpointError(self.path, f"{key} must be true or false, got {shown(value)}")
        return value

    def table(self, key: str) -> dict[str, Any]:
        """An object, empty where null or absent."""
        value = self._take(key)
        if value is not None and type(value) is not dict:
            raise CheckpointError(self.path, f"{key} must be an object, got {shown(value)}")
        return value or {}

    def choice(self, key: str, default: str, choices: dict[str, str]) -> str:
        value = self._take(key, default)
        if type(value) is not str:
            raise CheckpointError(self.path, f"{key} must be a string, got {shown(value)}")
        if value not in choices:
            raise _unsupported(self.path, key, value, f"it must be one of {', '.join(choices)}")
        return choices[value]

    def finish(self, neutral: dict[str, tuple], harmless: frozenset[str]) -> None:
        """Refuse what is left and could change the numbers."""
        for key, value in self.values.items():
            if key in self.taken or value is None or is_bookkeeping(key, harmless):
                continue
            if key in QUANTIZATION:
                if (method := quantized_with(value)) is not None:
                    raise ValueError(
                        f"{self.path}: {key} says that the weights are quantized ({method}); LoopOS reads "
                        "weights of F64, F32, F16 and BF16. Take the model's folder that is not quantized, or save it "
                        "again after model.dequantize() of transformers"
                    )
                continue
            if key not in neutral:
                raise _unsupported(self.path, key, value, "LoopOS does not know it; drop it if it changes no numbers")
            if not any(type(value) is type(same) and value == same for same in neutral[key]):
                raise _unsupported(
                    self.path, key, value, f"it must be {' or '.join(map(repr, neutral[key])) or 'null'}"
                )


def config_from_json(path: Path, values: Any) -> ModelConfig:
    """The ModelConfig of ``values``, a parsed config.json; ``path`` is for the messages.

    CheckpointError: a setting is missing, or of a wrong type or size. ValueError: a setting LoopOS does not compute.
    """
    if type(values) is not dict:
        raise CheckpointError(path, f"expected a JSON object, got {shown(values)}")
    settings = _Settings(path, values)
    if "model_type" not in values:
        raise CheckpointError(path, "the required setting model_type is missing")
    family = settings.choice("model_type", "", {"gpt2": "gpt2", "llama": "llama"})
    fields = _gpt2(settings) if family == "gpt2" else _llama(settings)
    try:
        return ModelConfig(**fields)
    except (TypeError, ValueError) as error:
        raise CheckpointError(path, str(error)) from error


def _gpt2(settings: _Settings) -> dict[str, Any]:
    fields = dict(
        vocab_size=settings.size("vocab_size"),
        context_length=settings.size("n_positions"),
        n_layer=settings.size("n_layer"),
        n_head=settings.size("n_head"),
        d_model=settings.size("n_embd"),
        d_ff=settings.size("n_inner", optional=True),
        activation=settings.choice("activation_function", "gelu_new", named_in("gpt2")),
        dropout=settings.probability("resid_pdrop", 0.1),
        norm_eps=settings.positive("layer_norm_epsilon", 1e-5),
    )
    n_ctx = settings.size("n_ctx", optional=True)  # older files say the context length twice
    if n_ctx not in (None, fields["context_length"]):
        raise _unsupported(settings.path, "n_ctx", n_ctx, f"it must equal n_positions = {fields['context_length']}")
    settings.finish(NEUTRAL_GPT2, HARMLESS_GPT2)
    return fields


def _llama(settings: _Settings) -> dict[str, Any]:
    fields = dict(
        vocab_size=settings.size("vocab_size"),
        context_length=settings.size("max_position_embeddings"),
        n_layer=settings.size("num_hidden_layers"),
        n_head=settings.size("num_attention_heads"),
        d_model=settings.size("hidden_size"),
        n_kv_head=settings.size("num_key_value_heads", optional=True),
        d_ff=settings.size("intermediate_size"),
        norm="rmsnorm",
        activation=settings.choice("hidden_act", "silu", named_in("llama")),
        position="rope",
        bias=False,
        tie_embeddings=settings.flag("tie_word_embeddings", False),
        norm_eps=settings.positive("rms_norm_eps", 1e-6),
        rope_theta=_rope_theta(settings),
    )
    head_dim = settings.size("head_dim", optional=True)
    if head_dim is not None and head_dim * fields["n_head"] != fields["d_model"]:
        sizes = f"num_attention_heads * head_dim must be hidden_size, got {fields['n_head']} * {head_dim}"
        raise _unsupported(settings.path, "head_dim", head_dim, f"{sizes} and {fields['d_model']}")
    layer_types = settings._take("layer_types") or []
    if layer_types != ["full_attention"] * len(layer_types):
        raise _unsupported(settings.path, "layer_types", layer_types, "every layer must be 'full_attention'")
    settings.finish(NEUTRAL_LLAMA, HARMLESS)
    return fields


def _rope_theta(settings: _Settings) -> float:
    """The base of the rotary frequencies: that of rope_parameters, else the top level's, else 10000."""
    theta = settings.positive("rope_theta", 10000.0)
    old, new = settings.table("rope_scaling"), settings.table("rope_parameters")
    if old and new and old != new:
        raise _unsupported(settings.path, "rope_scaling", old, f"it contradicts rope_parameters = {shown(new)}")
    for key, rope in (("rope_parameters", new), ("rope_scaling", old)):
        for name in ("rope_type", "type"):  # first: the other settings belong to the type
            if rope.get(name, "default") != "default":
                raise _unsupported(settings.path, f"{key}.{name}", rope[name], "it must be 'default'")
        for name, value in rope.items():
            if name == "rope_theta":
                theta = _number(settings.path, f"{key}.rope_theta", value, "greater than 0", lambda x: 0 < x < math.inf)
            elif name in ("rope_type", "type") or value is None:
                continue
            elif not (name == "partial_rotary_factor" and value in NEUTRAL_LLAMA[name]):
                raise _unsupported(settings.path, f"{key}.{name}", value, "the default type has no such setting")
    return theta


def _number(path: Path, key: str, value: Any, expected: str, fits: Callable[[float], bool]) -> float:
    if type(value) not in (int, float):
        raise CheckpointError(path, f"{key} must be a number, got {shown(value)}")
    try:
        number = float(value)
    except OverflowError:  # an integer beyond the largest float
        number = math.inf
    if not fits(number):
        raise CheckpointError(path, f"{key} must be a finite number {expected}, got {shown(value)}")
    return number


def _unsupported(path: Path, key: str, value: Any, why: str) -> ValueError:
    return ValueError(f"{path}: the setting {key} = {shown(value)} is not supported: {why}")


def family_of(config: ModelConfig) -> str:
    """The model_type, gpt2 or llama, of ``config``. ValueError naming the fields that keep it from being either."""
    gpt2 = dict(norm="layernorm", position="learned", bias=True, tie_embeddings=True, n_kv_head=config.n_head)
    llama = dict(norm="rmsnorm", position="rope", bias=False, dropout=0.0)
    misfits = {
        "gpt2": [f"{k}={v!r}, not {getattr(config, k)!r}" for k, v in gpt2.items() if getattr(config, k) != v],
        "llama": [f"{k}={v!r}, not {getattr(config, k)!r}" for k, v in llama.items() if getattr(config, k) != v],
    }
    for family, misfit in misfits.items():
        if config.activation not in (known := written_in(family)):
            misfit.append(f"activation={' or '.join(map(repr, known))}, not {config.activation!r}")
        if config.n_head * config.head_width != config.d_model:
            misfit.append(f"head_dim=d_model / n_head = {config.d_model / config.n_head:g}, not {config.head_dim}")
        plain = ModelConfig(1, 1, 1, 1, 2, bias=config.bias)
        names = ("attention_bias", "mlp_bias", "qk_norm", "norm_placement", "norm_unit_offset", "parallel_residual")
        names += ("embedding_scale", "attention_scale", "rotary_dim", "rope_scaling", "layer_types", "rope_layers")
        misfit += [
            f"{name}={value!r}, not {getattr(config, name)!r}"
            for name in names
            if getattr(config, name) != (value := getattr(plain, name))
        ]
        if 0 < config.sliding_window < config.context_length:
            misfit.append(f"sliding_window=0, not {config.sliding_window}")
    for family, misfit in misfits.items():
        if not misfit:
            return family
    raise ValueError(
        "save_pretrained: this configuration is of neither Hugging Face family. "
        f"GPT-2 would need {'; '.join(misfits['gpt2'])}. Llama would need {'; '.join(misfits['llama'])}."
    )


def config_to_json(config: ModelConfig, dtype: str) -> dict[str, Any]:
    """What transformers needs to open the folder. A ModelConfig has no special tokens, so their ids are null."""
    family = family_of(config)
    common = {
        "model_type": family,
        "dtype": dtype,
        "vocab_size": config.vocab_size,
        "tie_word_embeddings": config.tie_embeddings,
        "initializer_range": 0.02,
        "use_cache": True,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }
    if family == "gpt2":
        return common | {
            "architectures": ["GPT2LMHeadModel"],
            "n_positions": config.context_length,
            "n_embd": config.d_model,
            "n_layer": config.n_layer,
            "n_head": config.n_head,
            "n_inner": config.d_ff,
            "activation_function": written_in("gpt2")[config.activation],
            "layer_norm_epsilon": config.norm_eps,
            "resid_pdrop": config.dropout,
            "embd_pdrop": config.dropout,
            "attn_pdrop": config.dropout,
            "scale_attn_weights": True,
            "scale_attn_by_inverse_layer_idx": False,
            "reorder_and_upcast_attn": False,
            "add_cross_attention": False,
        }
    return common | {
        "architectures": ["LlamaForCausalLM"],
        "max_position_embeddings": config.context_length,
        "hidden_size": config.d_model,
        "intermediate_size": config.d_ff,
        "num_hidden_layers": config.n_layer,
        "num_attention_heads": config.n_head,
        "num_key_value_heads": config.n_kv_head,
        "head_dim": config.head_width,
        "hidden_act": written_in("llama")[config.activation],
        "rms_norm_eps": config.norm_eps,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "rope_theta": config.rope_theta,  # where transformers before 5 looks for it
        "attention_bias": False,
        "attention_dropout": 0.0,
        "mlp_bias": False,
    }
