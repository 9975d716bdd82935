"""An adapter folded into the weights that it stands on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from loopos import precision
from loopos.config import ModelConfig

from .kinds import kind_of
from .parts import MAGNITUDE, A, B, Part

LIMIT = 1e-4  # of the difference of logits, relative to the largest one
_ROWS, _TIME = 2, 64  # of the probe


class Merge(NamedTuple):
    """What merging changed on fixed random ids: the largest difference of a logit before and after, the largest logit,
    and what part of that the difference may be."""

    difference: float
    largest_logit: float
    limit: float

    @property
    def relative(self) -> float:
        return self.difference / self.largest_logit if self.largest_logit else self.difference

    def __str__(self) -> str:
        return f"logits differ by at most {self.difference:.3g}, {self.relative:.2g} of the largest"


def probe(config: ModelConfig) -> np.ndarray:
    """Ids (B, T), always the same."""
    shape = (_ROWS, min(_TIME, config.context_length))
    return np.random.default_rng(0).integers(0, config.vocab_size, shape)


def refuse(adapter: Any, weights: str) -> None:
    """ValueError for an adapter that no weight can stand for, and for a base whose ``weights`` are stored small."""
    if why := kind_of(adapter).unmergeable:
        raise ValueError(f"merge_adapter: {why}")
    if precision.small(weights):
        raise ValueError(
            f"merge_adapter: the base is stored as {weights}, and the sum would have to be rounded to {weights} again, "
            "which loses what the adapter learned (others report an accuracy that fell from .965 to .496); open the "
            "base with weights='float32', load the adapter there and merge it"
        )


def summed(part: Part, weight: np.ndarray, parameters: Mapping[str, np.ndarray]) -> np.ndarray:
    """The rows (rows, in) that do what the part's rows of ``weight`` and the part do together, in float64."""
    a, b = (parameters[f"{part.name}.{kind}"].astype(np.float64) for kind in (A, B))
    rows = weight[part.first : part.first + part.rows] + part.scale * (b @ a)
    if part.dora:
        rows *= (parameters[f"{part.name}.{MAGNITUDE}"] / np.linalg.norm(rows, axis=1))[:, None]
    return rows


@contextmanager
def put_into(parts: Sequence[Part], parameters: Mapping[str, np.ndarray]) -> Any:
    """Inside, the projections hold the sums, each rounded once; after an exception they are as they were."""
    weights = {part.projection: parameters[f"{part.projection}.weight"] for part in parts}
    before = {name: view.copy() for name, view in weights.items()}
    try:
        for part in parts:
            weight = weights[part.projection]
            weight[part.first : part.first + part.rows] = summed(part, weight, parameters)
        yield
    except BaseException:
        for name, view in weights.items():
            view[...] = before[name]
        raise
