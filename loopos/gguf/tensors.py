"""Which tensors of a GGUF file make up which parameter of LoopOS."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from loopos.config import ModelConfig

from .architectures import Architecture

ROPE_FACTORS = "rope_freqs.weight"


class Part(NamedTuple):
    """Some rows of a parameter as one tensor of the file. heads: of which the file has the rows of each in another
    order, or 0. shift: what the file's numbers are larger by."""

    name: str
    rows: int
    heads: int = 0
    shift: float = 0.0


class Slot(NamedTuple):
    """A parameter by its name in LoopOS, its shape, and its parts, whose rows follow each other in it."""

    name: str
    shape: tuple[int, ...]
    parts: tuple[Part, ...]


def slots(c: ModelConfig, architecture: Architecture) -> Iterator[Slot]:
    """All parameters of a model. Lazy, so that an absurd number of layers costs nothing until it is compared."""
    C, D, F, V = c.d_model, c.head_width, c.d_ff, c.vocab_size
    q, kv = c.n_head * D, c.n_kv_head * D
    q_heads, k_heads = (c.n_head, c.n_kv_head) if architecture.pairs else (0, 0)
    shift = architecture.norm_shift

    def norm(name: str, part: str, width: int = C) -> Slot:
        return Slot(f"{name}.weight", (width,), (Part(f"{part}.weight", width, shift=shift),))

    def matrix(name: str, columns: int, *parts: Part, biased: bool = False) -> Iterator[Slot]:
        rows = sum(part.rows for part in parts)
        for kind, shape in (
            (("weight", (rows, columns)), ("bias", (rows,))) if biased else (("weight", (rows, columns)),)
        ):
            yield Slot(f"{name}.{kind}", shape, tuple(part._replace(name=f"{part.name}.{kind}") for part in parts))

    yield from matrix("tok_embed", C, Part("token_embd", V))
    for i in range(c.n_layer):
        ours, theirs = f"blocks.{i}", f"blk.{i}"
        qkv = (
            Part(f"{theirs}.attn_q", q, q_heads),
            Part(f"{theirs}.attn_k", kv, k_heads),
            Part(f"{theirs}.attn_v", kv),
        )
        yield norm(f"{ours}.attn_norm", f"{theirs}.attn_norm")
        yield from matrix(f"{ours}.attn.qkv_proj", C, *qkv, biased=c.attention_bias != "none")
        if c.qk_norm == "head":
            yield norm(f"{ours}.attn.q_norm", f"{theirs}.attn_q_norm", D)
            yield norm(f"{ours}.attn.k_norm", f"{theirs}.attn_k_norm", D)
        yield from matrix(f"{ours}.attn.o_proj", q, Part(f"{theirs}.attn_output", C))
        if c.norm_placement == "both":
            yield norm(f"{ours}.attn_post_norm", f"{theirs}.post_attention_norm")
        yield norm(f"{ours}.mlp_norm", f"{theirs}.ffn_norm")
        yield from matrix(f"{ours}.mlp.gate_up_proj", C, Part(f"{theirs}.ffn_gate", F), Part(f"{theirs}.ffn_up", F))
        yield from matrix(f"{ours}.mlp.down_proj", F, Part(f"{theirs}.ffn_down", C))
        if c.norm_placement == "both":
            yield norm(f"{ours}.mlp_post_norm", f"{theirs}.post_ffw_norm")
    yield norm("final_norm", "output_norm")
    if not c.tie_embeddings:
        yield from matrix("lm_head", C, Part("output", V))


def halves_from_pairs(array: np.ndarray, heads: int) -> np.ndarray:
    """Rows (heads D, ...) whose rope turns neighbours, in the order in which it turns halves."""
    return array.reshape(heads, -1, 2, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)


def pairs_from_halves(array: np.ndarray, heads: int) -> np.ndarray:
    """The inverse of :func:`halves_from_pairs`."""
    return array.reshape(heads, 2, -1, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)
