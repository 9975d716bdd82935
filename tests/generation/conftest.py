"""Small models whose tokens differ from place to place, and what they say without a cache."""

from __future__ import annotations

import numpy as np
import pytest

import loopos

LLAMA = {"norm": "rmsnorm", "activation": "swiglu", "position": "rope", "bias": False, "n_kv_head": 2}
KINDS = {
    "gpt2": {},
    "llama": LLAMA,
    "window": {**LLAMA, "sliding_window": 7},
    "layers": {**LLAMA, "sliding_window": 7, "layer_types": ("full", "sliding"), "local_rope_theta": 500.0},
}


def build(kind="llama", dtype="float32", context_length=640, **more):
    config = loopos.ModelConfig(61, context_length, 2, 4, 32, **{**KINDS[kind], **more})
    model = loopos.Model(config, seed=1, dtype=dtype)
    for weight in model.parameters().values():
        weight *= 6
    return model


def without_cache(model, prompt, new):
    """Greedy, by Model.forward alone."""
    ids = [int(id) for id in prompt]
    for _ in range(new):
        ids.append(int(model.forward(np.array([ids]))[0, -1].argmax()))
    return ids


@pytest.fixture(scope="module", params=KINDS)
def model(request):
    return build(request.param)


class Letters:
    """A tokenizer whose ids are bytes, below the vocabulary of the models here."""

    vocab_size = 61

    def encode(self, text):
        return [byte % 61 for byte in text.encode()]

    def decode(self, ids):
        return "".join(chr(97 + int(id)) if id < 26 else "\N{EURO SIGN}" for id in ids)


@pytest.fixture
def letters():
    return Letters()
