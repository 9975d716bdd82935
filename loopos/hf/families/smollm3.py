"""SmolLM3: Llama with layers that have no rotary positions, every fourth one."""

from __future__ import annotations

from typing import Any

from loopos.checks import shown
from loopos.config import ModelConfig
from loopos.errors import CheckpointError
from loopos.hf.known import HARMLESS
from loopos.hf.reader import Settings

from . import decoder

_THETA, _INTERVAL = 2e6, 4  # defaults
_BIASES = (decoder.ATTENTION_BIAS, decoder.MLP_BIAS)


def _read(settings: Settings) -> dict[str, Any]:
    fields = decoder.read(settings, _BIASES, theta=_THETA, n_kv_head=4, tied=True)
    n_layer = fields["n_layer"]
    rope = _rope_layers(settings, n_layer)
    use = settings.flag("use_sliding_window", False)
    window = settings.size("sliding_window", optional=True)
    window = window if use else None
    by_rope = tuple("sliding" if window is not None and not has else "full" for has in rope)
    types = decoder.layer_types(settings, n_layer) or by_rope
    return fields | decoder.sliding(settings, window, types) | {"rope_layers": () if all(rope) else rope}


def _rope_layers(settings: Settings, n_layer: int) -> tuple[bool, ...]:
    """no_rope_layers has 1 for a layer with rotary positions, whatever its name says."""
    interval = settings.size("no_rope_layer_interval", optional=True) or _INTERVAL
    values = settings.take("no_rope_layers")
    if values is None:
        return tuple(bool((layer + 1) % interval) for layer in range(n_layer))
    if type(values) is not list or any(type(value) is not int or value not in (0, 1) for value in values):
        what = f"no_rope_layers must be a list of 0 and 1, got {shown(values)}"
        raise CheckpointError(settings.path, what)
    if len(values) < n_layer:
        what = f"no_rope_layers has {len(values)} entries, and num_hidden_layers is {n_layer}"
        raise CheckpointError(settings.path, what)
    return tuple(map(bool, values[:n_layer]))


def _write(c: ModelConfig) -> dict[str, Any]:
    types = decoder.layer_types_json(c)
    return decoder.write(c, _BIASES) | {
        "no_rope_layers": [int(c.has_rope(layer)) for layer in range(c.n_layer)],
        "no_rope_layer_interval": _INTERVAL,
        "use_sliding_window": decoder.SLIDING in types,
        "sliding_window": c.sliding_window or None,
        "layer_types": types,
    }


SMOLLM3 = decoder.family(
    model_type="smollm3",
    title="SmolLM3",
    architecture="SmolLM3ForCausalLM",
    read=_read,
    write=_write,
    harmless=HARMLESS | {"max_window_layers"},  # of Qwen2, whose configuration was the model for this one
)
