"""An adapter as the core has it: low-rank parts, each of a range of rows of a projection, and their first values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from loopos.hf.linears import Linear

from .lora import LoRA

A, B, MAGNITUDE = "lora_A", "lora_B", "lora_magnitude"  # what the names of parameters end with


class Part(NamedTuple):
    """y[:, first : first + rows] += scale · (dropout(x) Aᵀ) Bᵀ, with y = x Wᵀ of ``projection``; A (rank, in), B (rows,
    rank); dora: then each of these rows is brought to a length of its own, ``lora_magnitude`` (rows). ``name`` is what
    the names of the parameters begin with."""

    projection: str
    name: str
    first: int
    rows: int
    rank: int
    scale: float
    dropout: float
    dora: bool

    def for_core(self) -> dict[str, Any]:
        """What ``add_adapter`` of the core takes."""
        return {name: value for name, value in self._asdict().items() if name != "dora" or value}

    @property
    def parameters(self) -> tuple[str, ...]:
        return tuple(f"{self.name}.{kind}" for kind in (A, B, *([MAGNITUDE] if self.dora else [])))


def parts_of(spec: LoRA, chosen: Sequence[Linear]) -> list[Part]:
    """One for each of ``chosen``, with the rank and the scale that ``spec`` has for its module."""
    own = (spec.dropout, spec.dora)
    return [
        Part(each.projection, each.name, each.first, each.rows, *spec.of_module(each.module), *own) for each in chosen
    ]


def first_values(
    parts: Sequence[Part], views: Mapping[str, np.ndarray], rows_of: Callable[[Part], np.ndarray], seed: int
) -> None:
    """Writes them into ``views``, the parameters of the parts: A uniform in ±1/√in (kaiming_uniform of a = √5, as peft
    has it), B 0, so that nothing changes yet; magnitudes are the norms of the rows of W, which ``rows_of`` gives.

    Part number i draws from Philox keyed by (seed, i), as float32 for either dtype."""
    for number, part in enumerate(parts):
        a = views[f"{part.name}.{A}"]
        bound = 1 / np.sqrt(a.shape[1])
        rng = np.random.Generator(np.random.Philox(key=np.array([seed, number], np.uint64)))
        a[...] = rng.uniform(-bound, bound, a.shape).astype(np.float32)
        views[f"{part.name}.{B}"][...] = 0
        if part.dora:
            views[f"{part.name}.{MAGNITUDE}"][...] = np.linalg.norm(rows_of(part).astype(np.float64), axis=1)
