"""Llama: rms norm, rotary positions (scaled in several ways), a gated feed-forward, grouped keys and values."""

from __future__ import annotations

from typing import Any

from loopos.choices import named_there
from loopos.config import ModelConfig
from loopos.hf.reader import Settings

from . import decoder

_BIASES = (decoder.ATTENTION_BIAS, decoder.MLP_BIAS)


def _read(settings: Settings) -> dict[str, Any]:
    fields = decoder.read(settings, _BIASES)
    decoder.all_full(settings, fields["n_layer"])
    return fields


def _write(c: ModelConfig) -> dict[str, Any]:
    return decoder.write(c, _BIASES)


LLAMA = decoder.family(
    model_type="llama",
    title="Llama",
    architecture="LlamaForCausalLM",
    activations=named_there("silu", "swish", gated=True),
    read=_read,
    write=_write,
)
