"""config.json of a Hugging Face folder, to and from a ModelConfig.

Every key is accounted for: translated, required to have the one value LoopOS computes, or known to have no effect on
the numbers. Any other key is refused by name: a setting is never ignored. Defaults are those of transformers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from loopos.checks import shown
from loopos.config import ModelConfig
from loopos.errors import CheckpointError

from .classes import classes_json, labels_in
from .families import FAMILIES, Family
from .reader import Settings

_NEAREST = 2  # families that an error names


def family_in(path: Path, values: Any) -> Family:
    """The family that a parsed config.json names."""
    if type(values) is not dict:
        raise CheckpointError(path, f"expected a JSON object, got {shown(values)}")
    if "model_type" not in values:
        raise CheckpointError(path, "the required setting model_type is missing")
    return FAMILIES[Settings(path, values).choice("model_type", "", {name: name for name in FAMILIES})]


def config_from_json(path: Path, values: Any) -> ModelConfig:
    """The ModelConfig of ``values``, a parsed config.json; ``path`` is for the messages.

    CheckpointError: a setting is missing, or of a wrong type or size. ValueError: a setting LoopOS does not compute.
    """
    family = family_in(path, values)
    settings = Settings(path, values)
    settings.take("model_type")
    fields = family.fields(settings)
    labels = labels_in(path, values)
    try:
        return ModelConfig(**fields, labels=labels)
    except (TypeError, ValueError) as error:
        raise CheckpointError(path, str(error)) from error


def family_of(config: ModelConfig, wanted: str | None = None) -> str:
    """The model_type of ``config``: ``wanted`` where it can be that, else the first of the table that it can be.

    A config is of a family when what the family writes of it reads back as the same model. ValueError naming the fields
    that keep it from those that are nearest."""
    misfits = {}
    for name in sorted(FAMILIES, key=lambda name: name != wanted):
        misfits[name] = _misfits(config, FAMILIES[name])
        if not misfits[name]:
            return name
    nearest = sorted(misfits, key=lambda name: len(misfits[name]))[:_NEAREST]
    would = " ".join(f"{FAMILIES[name].title} would need {'; '.join(misfits[name])}." for name in nearest)
    raise ValueError(f"save_pretrained: this configuration is of no Hugging Face family that LoopOS writes. {would}")


def describes(values: Any, config: ModelConfig) -> bool:
    """Whether a parsed config.json is of this very model."""
    try:
        return _plain(config_from_json(Path("config.json"), values)) == _plain(config)
    except ValueError:
        return False


def _misfits(config: ModelConfig, family: Family) -> list[str]:
    """Each field that would be another one after a round trip, as "field=one, not another"."""
    path = Path("config.json")
    try:
        values = to_json(config, family, "float32")
        again = _plain(config_from_json(path, values))
    except ValueError as error:
        return [str(error)]
    ours, misfits = _plain(config), []
    for field, value in again.items():
        if field == "activation" and config.activation not in (known := family.activations.values()):
            misfits.append(f"activation={' or '.join(map(repr, dict.fromkeys(known)))}, not {config.activation!r}")
        elif value != ours.get(field, value):
            misfits.append(f"{field}={value!r}, not {ours[field]!r}")
    return misfits


def _plain(c: ModelConfig) -> dict[str, Any]:
    """The fields, each model in one spelling."""
    types = [c.layer_type(layer) for layer in range(c.n_layer)]
    local = c.local_rope_theta if c.local_rope_theta != c.rope_theta or c.rope_scaling is not None else 0.0
    window = c.sliding_window if c.sliding_window < c.context_length and "sliding" in types else 0
    if not (local or window):
        types = ["full"] * c.n_layer
    plain = c.to_dict() | {
        "bias": c.bias and c.norm == "layernorm",  # beyond it, attention_bias and mlp_bias say all
        "head_dim": c.head_width,
        "sliding_window": window,
        "layer_types": types,
        "attention_scale": 0.0 if c.attention_scale == c.head_width**-0.5 else c.attention_scale,
        "rotary_dim": c.rotary_width,
        "local_rope_theta": local,
        "rope_layers": [c.has_rope(layer) for layer in range(c.n_layer)],
        "tie_embeddings": c.tie_embeddings or bool(c.labels),  # a classifier has no second matrix to tie
    }
    rotary = () if c.position == "rope" else ("rope_theta", "rotary_dim", "local_rope_theta", "rope_layers")
    return {name: value for name, value in plain.items() if name not in rotary}


def to_json(config: ModelConfig, family: Family, dtype: str) -> dict[str, Any]:
    """What transformers needs to open the folder. A ModelConfig has no special tokens, so their ids are null."""
    common = {
        "model_type": family.model_type,
        "architectures": [family.architecture],
        "dtype": dtype,
        "vocab_size": config.vocab_size,
        "initializer_range": 0.02,
        "use_cache": True,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }
    written = common | family.settings(config)
    return written | (classes_json(config.labels, written) if config.labels else {})
