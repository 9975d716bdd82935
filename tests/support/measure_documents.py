"""How far documents that share rows are from rows of their own: largest differences over models of each kind, printed
as JSON, for the instruction set that the environment asks for."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
from sweeps import SANITIZED

import loopos
from loopos import _core

BASE = {"vocab_size": 61, "context_length": 96, "n_layer": 2, "n_head": 4, "d_model": 32}
LLAMA = {"norm": "rmsnorm", "activation": "swiglu", "position": "rope", "bias": False, "n_kv_head": 2}
KINDS = {"gpt2": {}, "llama": LLAMA, "window": {**LLAMA, "sliding_window": 5}}
# Lengths of the documents in each row of 96: one token, a few, more than a tile, the whole row.
ROWS = [[1, 1, 40, 3, 51], [96], [95, 1], [33, 31, 32], [6] * 16, [1] * 96][: 4 if SANITIZED else 6]


def numbers(rows=ROWS):
    return np.array([np.repeat(np.arange(len(row)), row) for row in rows])


def batch(seed=0, vocab=61, rows=ROWS):
    rng = np.random.default_rng(seed)
    ids, targets = rng.integers(0, vocab, (2, len(rows), 96))
    targets[rng.random(targets.shape) < 0.2] = -100
    return ids, targets, numbers(rows)


def each_document(documents):
    """(row, slice) of each."""
    for b, row in enumerate(documents):
        borders = [0, *(np.flatnonzero(np.diff(row)) + 1), len(row)]
        yield from ((b, slice(*pair)) for pair in pairwise(borders))


def alone(model, ids, targets, documents):
    """(logits, loss, gradients) of a batch, from each of its documents in a row of its own."""
    logits = np.empty((*ids.shape, model.config.vocab_size), model.dtype)
    total, sums = 0.0, {name: np.zeros(x.shape) for name, x in model.parameters().items()}
    count = np.count_nonzero(targets != -100)
    for b, part in each_document(documents):
        row, own = ids[b : b + 1, part], targets[b : b + 1, part]
        logits[b, part] = model.forward(row)[0]
        share = np.count_nonzero(own != -100) / count
        loss, gradients = model.loss_and_grads(row, own)
        total += share * loss
        for name, gradient in gradients.items():
            sums[name] += share * gradient.astype(np.float64)
    return logits, total, sums


def relative(got, want):
    return float(np.linalg.norm(got.astype(np.float64) - want) / np.linalg.norm(want))


def errors(kind, dtype, rows=ROWS):
    model = loopos.Model(loopos.ModelConfig(**BASE, **KINDS[kind]), seed=3, dtype=dtype)
    for name, weight in model.parameters().items():  # so large that attention has something to tell apart
        weight[...] *= 8 if name.endswith("proj.weight") else 1
    ids, targets, documents = batch(rows=rows)
    logits, loss, gradients = alone(model, ids, targets, documents)
    got, ours = model.loss_and_grads(ids, targets, documents=documents)
    return {
        "logits": relative(model.forward(ids, documents=documents), logits),
        "loss": abs(got / loss - 1),
        "same loss": abs(model.loss(ids, targets, documents=documents) / loss - 1),
        **{name: relative(gradient, gradients[name]) for name, gradient in ours.items()},
    }


if __name__ == "__main__":
    worst = {}
    for kind in KINDS:
        for dtype in ("float32", "float64"):
            found = errors(kind, dtype)
            worst[f"{kind} {dtype}"] = max(found.values())
    print(json.dumps({"isa": _core.isa(), "worst": worst}))
