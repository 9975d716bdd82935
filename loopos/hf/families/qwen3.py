"""Qwen3: a norm on each head of queries and keys, heads of their own width, windows as in Qwen2."""

from __future__ import annotations

from typing import Any

from loopos.config import ModelConfig
from loopos.hf.reader import Settings

from . import decoder
from .qwen2 import windows, windows_json


def _read(settings: Settings) -> dict[str, Any]:
    fields = decoder.read(settings, [decoder.ATTENTION_BIAS], n_kv_head=32, head_dim=128)
    return fields | windows(settings, fields["n_layer"]) | {"qk_norm": "head"}


def _write(c: ModelConfig) -> dict[str, Any]:
    return decoder.write(c, [decoder.ATTENTION_BIAS]) | windows_json(c)


QWEN3 = decoder.family(
    model_type="qwen3",
    title="Qwen3",
    architecture="Qwen3ForCausalLM",
    read=_read,
    write=_write,
)
