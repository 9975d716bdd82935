"""Qwen2: Llama with biases on query, key and value, and a window in layers from some one on."""

from __future__ import annotations

from typing import Any

from loopos.config import ModelConfig
from loopos.hf.reader import Settings

from . import decoder


def windows(settings: Settings, n_layer: int) -> dict[str, Any]:
    """sliding_window and layer_types: of layer_types, else of max_window_layers; none without use_sliding_window."""
    use = settings.flag("use_sliding_window", False)
    window = settings.size("sliding_window", optional=True, absent=4096)
    first = settings.take("max_window_layers", 28)
    if type(first) is not int or first < 0:
        raise settings.unsupported("max_window_layers", first, "it must be an integer of at least 0")
    window = window if use else None
    by_number = tuple("sliding" if window is not None and layer >= first else "full" for layer in range(n_layer))
    return decoder.sliding(settings, window, decoder.layer_types(settings, n_layer) or by_number)


def windows_json(c: ModelConfig) -> dict[str, Any]:
    """The settings of :func:`windows`."""
    types = decoder.layer_types_json(c)
    return {
        "use_sliding_window": decoder.SLIDING in types,
        "sliding_window": c.sliding_window or None,
        "max_window_layers": types.index(decoder.SLIDING) if decoder.SLIDING in types else c.n_layer,
        "layer_types": types,
    }


def _read(settings: Settings) -> dict[str, Any]:
    fields = decoder.read(settings, n_kv_head=32)
    return fields | windows(settings, fields["n_layer"]) | {"attention_bias": "qkv"}


def _write(c: ModelConfig) -> dict[str, Any]:
    return decoder.write(c) | windows_json(c)


QWEN2 = decoder.family(
    model_type="qwen2",
    title="Qwen2",
    architecture="Qwen2ForCausalLM",
    read=_read,
    write=_write,
    neutral={key: values for key, values in decoder.ALIKE.items() if key != "attention_bias"},
)
