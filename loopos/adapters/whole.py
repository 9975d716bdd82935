"""The weights that a model computes with, by the names of one that is stored in full and has no adapter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from .merge import summed
from .parts import Part


class Whole(Mapping[str, np.ndarray]):
    """Of ``model``, each made when it is asked for: what is stored small as the numbers it stands for, and the rows
    that a low-rank part stands on with the part in them."""

    def __init__(self, model: Any):
        self._core, self._dtype = model._core, model.dtype
        self._parts = [part for part in model.adapter_parts if isinstance(part, Part)]  # a modulation stands for itself
        own = {name for part in self._parts for name in part.parameters}
        self._names = [name for name in self._core.names() if name not in own]
        self._rows = {each["name"]: each["shape"][0] for each in self._core.stored()}

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, name: str) -> np.ndarray:
        views = self._core.parameters()
        weight = self._core.load_stored(name, 0, self._rows[name]) if name in self._rows else views[name]
        if parts := [part for part in self._parts if f"{part.projection}.weight" == name]:
            weight = weight.copy()
            for part in parts:
                weight[part.first : part.first + part.rows] = summed(part, weight, views)
        return weight
