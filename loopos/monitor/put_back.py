"""Weights that updates move and somebody puts back: a callback that freezes blocks, a copy that is loaded in each step.

The loss falls all the same, by what is left. Bits tell it: a matrix that an update moved has the bits of before that
update when it is looked at again. The samples of before are kept as they are, and hashed for a checkpoint only: nearly
always the first number of one says that it is where the update put it.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from .monitor import Alarm

FAR = 1e-6  # ratio of an update to its weights beyond which no rounding leads back to the same bits


class PutBack:
    """Told of samples of the matrices in steps that log_every names. It says so once."""

    def __init__(self, saved: Any = None):
        """saved: :meth:`state` out of a checkpoint; what is not one is passed over."""
        known = saved if isinstance(saved, Mapping) else {}
        self._digests: dict[str, int] = dict(known.get("digests", {}))  # of a checkpoint, until samples are kept
        self._kept: Mapping[str, np.ndarray] = {}
        self._moved: list[str] = list(known.get("moved", ()))
        self._step, self._told = int(known.get("step", 0)), bool(known.get("told", False))

    def before(self, step: int, samples: Mapping[str, np.ndarray]) -> list[Alarm]:
        """The samples as ``step`` finds them, which are kept: they must not change until the next call has returned.
        What is where it was before an update that moved it, is an alarm."""
        if self._told:
            return []
        back = [name for name in self._moved if name in samples and self._is_back(name, samples[name])]
        since, self._step, self._kept, self._moved = self._step, step, samples, []
        if not back:
            return []
        self._told = True
        more = f" and {len(back) - 1} more matrices are" if len(back) > 1 else " is"
        sentence = (
            f"{back[0]}{more} bit for bit where step {since} found it, though its update moved it: something puts "
            "weights back (a callback?), and they learn nothing"
        )
        return [Alarm(step, "weights_put_back", float(len(back)), "weights that stay where updates put them", sentence)]

    def _is_back(self, name: str, sample: np.ndarray) -> bool:
        kept = self._kept.get(name)
        if kept is None:
            return self._digests.get(name) == _digest(sample)
        return kept.item(0) == sample.item(0) and kept.tobytes() == sample.tobytes()

    def after(self, ratios: Mapping[str, float]) -> None:
        """How far the update just done moved each matrix, relative to its size."""
        if not self._told:
            self._moved = [name for name, ratio in ratios.items() if ratio > FAR]

    def forget(self) -> None:
        """An update was refused: a policy may have put the weights back, as it should."""
        self._moved = []

    def state(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        digests = {name: _digest(sample) for name, sample in self._kept.items()} or self._digests
        return {"digests": digests, "moved": self._moved, "step": self._step, "told": self._told}


def _digest(sample: np.ndarray) -> int:
    return zlib.crc32(sample.tobytes())
