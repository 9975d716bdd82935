"""Which tensors of a Hugging Face file make up which parameter of LoopOS.

A family says where each module of LoopOS lies (:class:`Names`); the order, the shapes and which modules there are
follow from the ModelConfig alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from loopos.config import ModelConfig

from .classes import SCORE


class Part(NamedTuple):
    """A tensor of the file: its name and shape there, and those numbers of a parameter that are its, in its order: the
    shape of ``view`` splits the file's first dimension or is the file's."""

    source: str
    shape: tuple[int, ...]
    view: np.ndarray


@dataclass(frozen=True)
class Slot:
    """One parameter: its rows are those of ``sources`` (name in the file, rows) in order.

    transposed: each is stored as its transpose. heads: the rows of the one source are the query, key and value of the
    first head, of the second, and so on; here those of all heads stand together, query, key, value.
    """

    name: str
    shape: tuple[int, ...]
    sources: tuple[tuple[str, int], ...]
    transposed: bool = False
    heads: int = 0

    def file_shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        for source, rows in self.sources:
            shape = (rows, *self.shape[1:])
            yield source, shape[::-1] if self.transposed else shape

    def parts(self, array: np.ndarray) -> Iterator[Part]:
        """The tensors of the file as views of ``array``, which has the shape of this parameter."""
        start = 0
        for (source, rows), (_, shape) in zip(self.sources, self.file_shapes(), strict=True):
            view = array[start : start + rows]
            start += rows
            if self.heads:
                view = view.reshape(3, self.heads, rows // (3 * self.heads), *self.shape[1:]).swapaxes(0, 1)
            yield Part(source, shape, view.T if self.transposed else view)

    def join(self, tensors: Mapping[str, np.ndarray]) -> np.ndarray:
        """The parameter, a fresh array."""
        result = np.empty(self.shape, tensors[self.sources[0][0]].dtype)
        for source, _, view in self.parts(result):
            view[...] = tensors[source].reshape(view.shape)
        return result


@dataclass(frozen=True)
class Names:
    """Where a family keeps the modules of LoopOS.

    block: before the names of block ``{}``. modules: by the name in LoopOS (without its block), the modules of the file
    whose rows it has, one after another. transposed: matrices of blocks are stored as their transposes. by_head: the
    rows of the fused query, key and value stand head by head.
    """

    block: str
    modules: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    transposed: bool = False
    by_head: bool = False


def layout(c: ModelConfig, names: Names) -> Iterator[Slot]:
    """The parameters of a model in LoopOS order. Lazy, so that an absurd n_layer costs nothing until it is compared."""
    C, F, D, V = c.d_model, c.d_ff, c.head_width, c.vocab_size
    Q, KV = c.n_head * D, c.n_kv_head * D
    rows = {"attn.qkv_proj": (Q, KV, KV), "mlp.gate_up_proj": (F, F)}

    def module(name: str, shape: tuple[int, ...], bias: bool, block: int | None = None) -> Iterator[Slot]:
        files = names.modules[name]
        if block is not None:
            files = tuple(names.block.format(block) + file for file in files)
        parts = rows[name] if len(files) > 1 else shape[:1]
        ours = name if block is None else f"blocks.{block}.{name}"
        heads = c.n_head if names.by_head and name == "attn.qkv_proj" else 0
        transposed = names.transposed and block is not None and len(shape) > 1
        for kind, size in (("weight", shape), ("bias", shape[:1])):
            if kind == "weight" or bias:
                sources = tuple((f"{file}.{kind}", n) for file, n in zip(files, parts, strict=True))
                yield Slot(f"{ours}.{kind}", size, sources, transposed and kind == "weight", heads)

    def norm(name: str, block: int | None = None) -> Iterator[Slot]:
        yield from module(name, (C,), c.norm == "layernorm" and c.bias, block)

    yield from module("tok_embed", (V, C), False)
    if c.position == "learned":
        yield from module("pos_embed", (c.context_length, C), False)
    before, after = c.norm_placement != "post", c.norm_placement != "pre"
    for i in range(c.n_layer):
        if before:
            yield from norm("attn_norm", i)
        yield from module("attn.qkv_proj", (Q + 2 * KV, C), c.attention_bias != "none", i)
        if c.qk_norm != "none":
            widths = (D, D) if c.qk_norm == "head" else (Q, KV)
            yield from module("attn.q_norm", widths[:1], False, i)
            yield from module("attn.k_norm", widths[1:], False, i)
        yield from module("attn.o_proj", (C, Q), c.attention_bias == "all", i)
        if after:
            yield from norm("attn_post_norm", i)
        if before:
            yield from norm("mlp_norm", i)
        if c.gated:
            yield from module("mlp.gate_up_proj", (2 * F, C), c.mlp_bias, i)
        else:
            yield from module("mlp.up_proj", (F, C), c.mlp_bias, i)
        yield from module("mlp.down_proj", (C, F), c.mlp_bias, i)
        if after:
            yield from norm("mlp_post_norm", i)
    yield from norm("final_norm")
    if c.labels:
        yield Slot(SCORE, (c.num_labels, C), ((SCORE, c.num_labels),))
    elif not c.tie_embeddings:
        yield from module("lm_head", (V, C), False)
