"""A small image captioner on loopos.ops, forward and backward, whose parts can be spoilt one by one; and pictures with
captions that are exactly true. Case 0's fixes are measured on it (ten_fixes.py).

A picture is a vector of features that is projected and added to each token of its caption (as of Vinyals et al. 2015,
whose decoder gets the picture as an input); one pre-norm block of causal attention and a feed-forward; a head without a
norm before it, so that a picture that is too bright makes large logits, as in the write-up."""

from __future__ import annotations

from typing import Any

import numpy as np

from loopos import ops

COLOURS, SHAPES, PLACES = 6, 6, 4
BEGIN, END = 0, 1
VOCABULARY = 2 + COLOURS + SHAPES + PLACES
FEATURES, WIDTH, LENGTH = 24, 32, 4
LINEARS = {"picture": (WIDTH, FEATURES), "qkv": (3 * WIDTH, WIDTH), "out": (WIDTH, WIDTH), "up": (4 * WIDTH, WIDTH)}
LINEARS |= {"down": (WIDTH, 4 * WIDTH), "head": (VOCABULARY, WIDTH)}
Batch = tuple[np.ndarray, np.ndarray, np.ndarray]  # pictures (B, FEATURES), ids (B, LENGTH), targets (B, LENGTH)


def pictures(count: int, seed: int) -> Batch:
    """Features of a colour, a shape and a place, with noise; the caption names the three and ends."""
    rng = np.random.default_rng(seed)
    kinds = [rng.integers(0, size, count) for size in (COLOURS, SHAPES, PLACES)]
    basis = np.random.default_rng(0).normal(size=(COLOURS + SHAPES + PLACES, FEATURES))  # one world for all sets
    starts = np.cumsum([0, COLOURS, SHAPES])
    seen = sum(basis[start + kind] for start, kind in zip(starts, kinds, strict=True))
    seen = (seen + 0.3 * rng.normal(size=seen.shape)) / np.sqrt(3)
    words = np.stack([2 + start + kind for start, kind in zip(starts, kinds, strict=True)], 1)
    begin, end = np.full((count, 1), BEGIN), np.full((count, 1), END)
    return seen.astype(np.float32), np.hstack([begin, words]), np.hstack([words, end])


def bfloat16(x: np.ndarray) -> np.ndarray:
    """Rounded to the nearest bfloat16, kept as float32."""
    bits = x.view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


class SmallCaptioner:
    """hot: what the head's first weights are multiplied by."""

    def __init__(self, seed: int, hot: float = 1.0):
        rng = np.random.default_rng(seed)
        self.parameters = {name: rng.normal(size=shape) / np.sqrt(shape[1]) for name, shape in LINEARS.items()}
        self.parameters |= {"token": rng.normal(size=(VOCABULARY, WIDTH)), "place": rng.normal(size=(LENGTH, WIDTH))}
        self.parameters["head"] *= hot
        self.parameters = {name: value.astype(np.float32) for name, value in self.parameters.items()}

    def forward(self, batch: Batch, *, eps: float = 1e-5, half: bool = False) -> tuple[np.ndarray, dict[str, Any]]:
        """Logits (B, LENGTH, VOCABULARY), and what :meth:`backward` needs. half: products of bfloat16 operands."""
        seen, ids, _ = batch
        rounded = bfloat16 if half else lambda x: x
        w = {name: rounded(value) for name, value in self.parameters.items()}
        kept: dict[str, Any] = {"w": w, "ids": ids}

        def linear(name: str, x: np.ndarray) -> np.ndarray:
            kept[name] = rounded(x)
            return ops.linear(kept[name], w[name])

        kept["embedding"] = ops.embedding(ids, w["token"]) + w["place"] + linear("picture", seen)[:, None]
        kept["norm1"] = ops.layer_norm(x := kept["embedding"], eps=eps)
        q, k, v = np.split(linear("qkv", kept["norm1"][0])[:, None], 3, axis=-1)  # one head
        kept["attention"] = (q, k, v, *ops.attention(q, k, v, causal=True))
        kept["middle"] = middle = x + linear("out", kept["attention"][3][:, 0])
        kept["norm2"] = ops.layer_norm(middle, eps=eps)
        kept["before"] = linear("up", kept["norm2"][0])
        kept["last"] = middle + linear("down", ops.gelu(kept["before"]))
        return linear("head", kept["last"]), kept

    def backward(self, dlogits: np.ndarray, kept: dict[str, Any]) -> dict[str, np.ndarray]:
        """The gradient of every parameter."""
        grads: dict[str, np.ndarray] = {}

        def linear(name: str, dy: np.ndarray) -> np.ndarray:
            dx, grads[name], _ = ops.linear_backward(dy, kept[name], kept["w"][name], has_bias=False)
            return dx

        def norm(name: str, dy: np.ndarray, x: np.ndarray) -> np.ndarray:
            return ops.layer_norm_backward(dy, x, None, *kept[name][1:])[0]

        dlast = linear("head", dlogits)
        dmiddle = dlast + norm(
            "norm2", linear("up", ops.gelu_backward(linear("down", dlast), kept["before"])), kept["middle"]
        )
        q, k, v, y, lse = kept["attention"]
        dqkv = ops.attention_backward(linear("out", dmiddle)[:, None], q, k, v, y, lse, causal=True)
        dx = dmiddle + norm("norm1", linear("qkv", np.concatenate(dqkv, axis=-1)[:, 0]), kept["embedding"])
        linear("picture", dx.sum(1))
        grads["place"] = dx.sum(0)
        grads["token"] = ops.embedding_backward(dx, kept["ids"], VOCABULARY)
        return grads
