"""Which tensors of a Hugging Face file make up which parameter of LoopOS."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from loopos.config import ModelConfig


@dataclass(frozen=True)
class Slot:
    """One parameter: its rows are those of ``sources`` (name in the file, rows) in order, transposed there or not."""

    name: str
    shape: tuple[int, ...]
    sources: tuple[tuple[str, int], ...]
    transposed: bool = False

    def file_shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        for source, rows in self.sources:
            shape = (rows, *self.shape[1:])
            yield source, shape[::-1] if self.transposed else shape

    def join(self, tensors: dict[str, np.ndarray]) -> np.ndarray:
        parts = [tensors[source].T if self.transposed else tensors[source] for source, _ in self.sources]
        return np.ascontiguousarray(parts[0] if len(parts) == 1 else np.concatenate(parts))

    def split(self, array: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        start = 0
        for source, rows in self.sources:
            part = array[start : start + rows]
            yield source, np.ascontiguousarray(part.T if self.transposed else part)
            start += rows


def layout(config: ModelConfig, family: str) -> Iterator[Slot]:
    """The parameters of a model in LoopOS order. Lazy, so that an absurd n_layer costs nothing until it is compared."""
    yield from _gpt2(config) if family == "gpt2" else _llama(config)


def _gpt2(c: ModelConfig) -> Iterator[Slot]:
    C, F = c.d_model, c.d_ff

    def pair(name: str, source: str, rows: int, *columns: int) -> Iterator[Slot]:
        yield Slot(f"{name}.weight", (rows, *columns), ((f"transformer.{source}.weight", rows),), bool(columns))
        yield Slot(f"{name}.bias", (rows,), ((f"transformer.{source}.bias", rows),))

    yield Slot("tok_embed.weight", (c.vocab_size, C), (("transformer.wte.weight", c.vocab_size),))
    yield Slot("pos_embed.weight", (c.context_length, C), (("transformer.wpe.weight", c.context_length),))
    for i in range(c.n_layer):
        block, h = f"blocks.{i}", f"h.{i}"
        yield from pair(f"{block}.attn_norm", f"{h}.ln_1", C)
        yield from pair(f"{block}.attn.qkv_proj", f"{h}.attn.c_attn", 3 * C, C)
        yield from pair(f"{block}.attn.o_proj", f"{h}.attn.c_proj", C, C)
        yield from pair(f"{block}.mlp_norm", f"{h}.ln_2", C)
        yield from pair(f"{block}.mlp.up_proj", f"{h}.mlp.c_fc", F, C)
        yield from pair(f"{block}.mlp.down_proj", f"{h}.mlp.c_proj", C, F)
    yield from pair("final_norm", "ln_f", C)


def _llama(c: ModelConfig) -> Iterator[Slot]:
    C, F, KV, V = c.d_model, c.d_ff, c.n_kv_head * c.head_width, c.vocab_size

    def slot(name: str, *sources: tuple[str, int], columns: tuple[int, ...] = (C,)) -> Slot:
        rows = sum(rows for _, rows in sources)
        return Slot(f"{name}.weight", (rows, *columns), tuple((f"{source}.weight", n) for source, n in sources))

    yield slot("tok_embed", ("model.embed_tokens", V))
    for i in range(c.n_layer):
        block, h = f"blocks.{i}", f"model.layers.{i}"
        q, k, v, o = (f"{h}.self_attn.{x}_proj" for x in "qkvo")
        yield slot(f"{block}.attn_norm", (f"{h}.input_layernorm", C), columns=())
        yield slot(f"{block}.attn.qkv_proj", (q, C), (k, KV), (v, KV))
        yield slot(f"{block}.attn.o_proj", (o, C))
        yield slot(f"{block}.mlp_norm", (f"{h}.post_attention_layernorm", C), columns=())
        yield slot(f"{block}.mlp.gate_up_proj", (f"{h}.mlp.gate_proj", F), (f"{h}.mlp.up_proj", F))
        yield slot(f"{block}.mlp.down_proj", (f"{h}.mlp.down_proj", C), columns=(F,))
    yield slot("final_norm", ("model.norm", C), columns=())
    if not c.tie_embeddings:
        yield slot("lm_head", ("lm_head", V))


PREFIX = {"gpt2": "transformer.", "llama": "model."}
EMBEDDING = {"gpt2": "transformer.wte.weight", "llama": "model.embed_tokens.weight"}
# Constants some versions of transformers stored beside the weights: the causal mask and the rotary frequencies.
BUFFERS = {
    "gpt2": re.compile(r"transformer\.h\.\d+\.attn\.(bias|masked_bias)"),
    "llama": re.compile(r"model\.(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq"),
}
