"""The stage on which faults are provoked at one known element, and the list of them.

Token 7 stands at one place. Its embedding is 1 in channel 3; channel 3 of all other embeddings and of the position
table is 0, and so are the rows 3 of what writes into the stream. Behind an rms norm (no mean) channel 3 is then 5.6 at
that place and exactly 0 elsewhere, in every block: a weight [r, 3] = 1e38 overflows there, in channel r, and nowhere
else. Each fault's place follows from such a construction, not from what the engine answers.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import loopos

BASE = {"vocab_size": 31, "context_length": 16, "n_layer": 2, "n_head": 4, "d_model": 32, "d_ff": 48}
GPT = {**BASE, "norm": "layernorm", "activation": "gelu_tanh", "bias": True, "tie_embeddings": False}
LLAMA = {**BASE, "norm": "rmsnorm", "activation": "swiglu", "bias": False, "tie_embeddings": False}
AT, SPECIAL, CHANNEL = (1, 4), 7, 3


class Stage:
    def __init__(self, family=LLAMA, *, dtype="float32", at=(AT,), channels=(CHANNEL,), precision=None, **more):
        self.model = loopos.Model(loopos.ModelConfig(**(family | more)), seed=1, dtype=dtype, precision=precision)
        self.w = self.model.parameters()
        rng = np.random.default_rng(0)
        self.ids, self.targets = rng.integers(8, 31, (2, 2, 16))
        for place in at:
            self.ids[place] = SPECIAL
        tokens = self.w["tok_embed.weight"]
        tokens[SPECIAL] = 0
        for channel in channels:
            tokens[:, channel] = 0
            tokens[SPECIAL, channel] = 1
            if "pos_embed.weight" in self.w:
                self.w["pos_embed.weight"][:, channel] = 0
            for layer in range(2):
                self.w[f"blocks.{layer}.attn.o_proj.weight"][channel] = 0
                self.w[f"blocks.{layer}.mlp.down_proj.weight"][channel] = 0

    def rows(self, name: str, *rows: int) -> np.ndarray:
        """The weight with these rows set to 0, to be written into."""
        self.w[name][list(rows)] = 0
        return self.w[name]

    def without_branches(self) -> Stage:
        """Only embedding, final norm and head are left."""
        for layer in range(2):
            for name in ("attn.o_proj", "mlp.down_proj"):
                self.w[f"blocks.{layer}.{name}.weight"][:] = 0
        return self

    def only_target(self, label: int = 20) -> Stage:
        self.targets[...] = -100
        self.targets[AT] = label
        return self

    def steep(self, scale: float) -> Stage:
        """A loss that is steep in channel 6: gradients are large, logits ordinary."""
        self.w["lm_head.weight"][21, 6], self.w["lm_head.weight"][20, 6] = scale, -scale
        return self

    def step(self) -> str:
        before = self.model.state_dict()
        try:
            loss, _ = self.model.loss_and_grads(self.ids, self.targets)
        finally:
            for name, view in self.w.items():
                assert np.array_equal(view, before[name], equal_nan=True), f"{name} changed"
        return f"loss {loss:.3g}"

    def train(self, **settings: Any) -> str:
        class Data:
            def batch(_, step, micro):
                return self.ids, self.targets

        plain = {"max_steps": 3, "progress": False, "max_grad_norm": None, "lr_schedule": "constant"}
        loopos.train(self.model, Data(), **(plain | settings))
        return "trained"


class Place(NamedTuple):
    phase: str
    layer: int | None
    op: str
    tensor: str
    index: tuple[int, ...]

    def __str__(self) -> str:
        block = "" if self.layer is None else f", block {self.layer}"
        return f"{self.phase}{block}, {self.op}: {self.tensor}{list(self.index)}"


class Fault(NamedTuple):
    """expected: a Place; the type of another exception or warning; None for a step that is healthy."""

    group: str
    name: str
    expected: Place | type | None
    cause: str | None  # the class, where a Place is expected
    run: Callable[[], Any]


FAULTS: list[Fault] = []


def fault(group: str, name: str, expected: Place | type | None, cause: str | None = None) -> Callable:
    def register(run: Callable[[], Any]) -> Callable[[], Any]:
        FAULTS.append(Fault(group, name, expected, cause, run))
        return run

    return register


class Answer(NamedTuple):
    place: Place | type | None
    cause: str | None
    words: str
    birth: loopos.Birth | None = None


def answer(run: Callable[[], Any]) -> Answer:
    """What the engine says of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return Answer(None, None, str(run()))
        except loopos.NonFiniteError as error:
            birth = error.birth
            place = Place(birth.phase, birth.layer, birth.op, birth.tensor, birth.index)
            return Answer(place, birth.cause_class, str(error), birth)
        except (ValueError, IndexError, Warning) as error:
            return Answer(type(error), None, str(error))
