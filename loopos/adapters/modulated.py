"""The modulated adapter: what a block's attention adds to the stream changes, through a narrow map, what its
feed-forward is given. With u = a A_projᵀ of attention's output a, the feed-forward's input x (behind its norm) becomes
gate(u B_multᵀ) · x + additive_scale · u B_addᵀ (cpp/layers/modulation.h)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from loopos import checks, ops
from loopos.choices import GATES

A_PROJ, B_ADD, B_MULT = "A_proj", "B_add", "B_mult"  # what the names of parameters end with
STD = {A_PROJ: 0.02, B_ADD: 0.001, B_MULT: 0.0}  # of first values: a gate that nothing moves, a small added part


@dataclass(frozen=True)
class Modulated:
    """rank: columns of B_add and B_mult, rows of A_proj. gate: "sigmoid", 0.5 + σ(z), or "tanh", 1 + tanh(z) / 2: 1
    at z = 0, where training begins, and from 0.5 to 1.5; "document", 0.5 σ(z) + 0.5, is 0.75 there and takes a quarter
    of every feed-forward's input away (loopos.doctor refuses it). safe_mode: no gate, the added part alone.

    A wrong type: TypeError; out of range: ValueError."""

    rank: int = 16
    gate: str = "sigmoid"
    additive_scale: float = 0.1
    safe_mode: bool = False

    def __post_init__(self) -> None:
        put = object.__setattr__  # the dataclass is frozen for everyone else
        put(self, "rank", checks.count("Modulated", "rank", self.rank, high=1 << 20))
        put(self, "gate", checks.choice("Modulated", "gate", self.gate, GATES))
        put(self, "additive_scale", checks.real("Modulated", "additive_scale", self.additive_scale))
        put(self, "safe_mode", checks.boolean("Modulated", "safe_mode", self.safe_mode))

    def to_dict(self) -> dict[str, Any]:
        """Safe for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Modulated:
        """What :meth:`to_dict` gave."""
        return cls(**values)

    @property
    def arithmetic(self) -> dict[str, Any]:
        """What loopos.ops.modulate takes beside arrays."""
        return {"gate": self.gate, "additive_scale": self.additive_scale}

    def measured(self) -> Gate:
        """The gate, measured on the engine's own operation; in safe mode one that is 1 everywhere."""
        return Gate(1.0, 0.0, 1.0, 1.0) if self.safe_mode else Gate.measure(self.gate)


class Gate(NamedTuple):
    """What a gate is: its value and slope at 0, where training begins, and the least and largest value it takes."""

    at_zero: float
    slope: float
    least: float
    largest: float

    @classmethod
    def measure(cls, name: str) -> Gate:
        z = np.concatenate([np.linspace(-50, 50, 2001), [-1e30, 1e30]])
        zero, one = np.zeros(1), np.ones(1)
        values = ops.modulate(np.ones_like(z), z, np.zeros_like(z), gate=name)
        at_zero = ops.modulate(one, zero, zero, gate=name)
        slope = ops.modulate_backward(one, one, zero, gate=name)[1]
        return cls(float(at_zero[0]), float(slope[0]), float(values.min()), float(values.max()))


class Modulation(NamedTuple):
    """That of one block. ``name`` is what the names of its parameters begin with."""

    name: str
    gated: bool

    @property
    def parameters(self) -> tuple[str, ...]:
        return tuple(f"{self.name}.{kind}" for kind in (A_PROJ, B_ADD, *([B_MULT] if self.gated else [])))


def modulations_of(spec: Modulated, n_layer: int) -> list[Modulation]:
    """One for each block."""
    return [Modulation(f"blocks.{layer}.modulate", not spec.safe_mode) for layer in range(n_layer)]


def first_values(parts: Sequence[Modulation], views: Mapping[str, np.ndarray], seed: int) -> None:
    """Writes them into ``views``: normal, with the standard deviations ``STD``.

    Block number i draws from Philox keyed by (seed, i), as float32 for either dtype."""
    for number, part in enumerate(parts):
        rng = np.random.Generator(np.random.Philox(key=np.array([seed, number], np.uint64)))
        for name in part.parameters:
            view, std = views[name], STD[name.rpartition(".")[2]]
            view[...] = rng.normal(0, std, view.shape).astype(np.float32) if std > 0 else 0
