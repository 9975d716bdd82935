"""The frozen model under an adapter, as a run's checkpoints know it: by its folder and its SHA-256, not its numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np


class Base(NamedTuple):
    """folder: absolute, where it was opened; None of a model that came from none. dtype, weights: as of Model. sha256:
    of its numbers as they are stored in memory, so that it belongs to dtype and weights."""

    folder: str | None
    dtype: str
    weights: str
    sha256: str

    @classmethod
    def of(cls, model: Any) -> Base:
        """That of ``model``, with or without its adapter."""
        learned = [name for part in model.adapter_parts for name in part.parameters] + list(model.learns_beside())
        sha256 = fingerprint(model._core, learned)
        return cls(model.folder, model.dtype, model.weights, sha256)

    @classmethod
    def from_dict(cls, values: Any) -> Base:
        """What ``_asdict`` gave. TypeError, ValueError, LookupError for anything else."""
        base = cls(**{name: values[name] for name in cls._fields})
        if not all(isinstance(value, str) for value in base[1:]) or not isinstance(base.folder, str | None):
            raise TypeError("base must have a folder, dtype, weights and sha256")
        return base

    def same_numbers(self, other: Base) -> bool | None:
        """None where the two are stored in other types, so that their numbers cannot be compared."""
        if (self.dtype, self.weights) != (other.dtype, other.weights):
            return None
        return self.sha256 == other.sha256


def fingerprint(core: Any, without: Iterable[str]) -> str:
    """SHA-256 over every number of a model but the parameters ``without``, and their names and shapes."""
    digest, left_out = hashlib.sha256(), set(without)
    views: Mapping[str, np.ndarray] = core.parameters()
    stored = {each["name"]: each for each in core.stored()}
    for name in core.names():
        if name in left_out:
            continue
        small = name in stored
        numbers = core.get_stored(name)[0] if small else np.ascontiguousarray(views[name])
        kind = f"{stored[name]['storage']} {tuple(stored[name]['shape'])}" if small else numbers.dtype.str
        digest.update(f"\0{name}\0{kind}\0{numbers.shape}\0".encode())
        digest.update(numbers.reshape(-1).view(np.uint8))
    return digest.hexdigest()
