"""Mistral: Llama with a window in which all layers attend."""

from __future__ import annotations

from typing import Any

from loopos.config import ModelConfig
from loopos.hf.reader import Settings

from . import decoder


def _read(settings: Settings) -> dict[str, Any]:
    fields = decoder.read(settings, n_kv_head=8)
    return fields | decoder.one_window(settings, fields["n_layer"], absent=4096)


def _write(c: ModelConfig) -> dict[str, Any]:
    return decoder.write(c) | {"sliding_window": c.sliding_window or None}


MISTRAL = decoder.family(
    model_type="mistral",
    title="Mistral",
    architecture="MistralForCausalLM",
    read=_read,
    write=_write,
)
