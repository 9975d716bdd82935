"""The optimizer of a run over several processes, each of which keeps the moments of its own parameters alone (ZeRO-1:
Rajbhandari et al. 2020)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from loopos.distributed.alone import Alone
from loopos.trainable import trainable_of

from .training import TrainingOptimizer, for_run

BLOCK = 8192  # numbers whose squares the norm's partial sums are of (cpp/ops/global_norm.h)


def owners(sizes: Sequence[int], size: int) -> list[int]:
    """Of parameters of these sizes, in their order, which of ``size`` processes keeps each: contiguous, about as many
    numbers for each process. ValueError for fewer parameters than processes."""
    if len(sizes) < size:
        raise ValueError(
            f"train: shard_optimizer shares {len(sizes)} parameters out, and there are {size} ranks; leave it out"
        )
    ends = np.cumsum(sizes)
    middles = (ends - np.asarray(sizes) / 2) / ends[-1] * size
    found, last = [], 0
    for at, middle in enumerate(middles):
        left = len(sizes) - at - 1  # parameters after this one
        owner = min(max(last, int(middle)), size - 1, last + (at > 0))  # none is left without one
        last = max(owner, size - 1 - left)
        found.append(last)
    return found


class ShardedOptimizer(TrainingOptimizer):
    """Updates the parameters of this process and sends them to the others. Whether an update can be made is agreed
    before anything is written: it happens in all processes or in none."""

    def __init__(self, ranks: Alone, rule: str, model: Any, **settings: Any):
        self._ranks, self._all = ranks, dict(trainable_of(model))
        whose = owners([view.size for view in self._all.values()], ranks.size)
        self._owned = dict(zip(self._all, whose, strict=True))
        own = {name: view for name, view in self._all.items() if self._owned[name] == ranks.rank}
        super().__init__(for_run(rule, own, **settings), model)
        gradients = model._core.gradients()
        self._grads = [gradients[name] for name in own]
        self._all_grads = [(self._owned[name], gradients[name]) for name in self._all]
        self._ranges: list[tuple[int, int]] | None = None  # of the buffer that the ranks own, where sums are of these
        self._buffer: Any = None
        self._whole: dict[str, np.ndarray] = {}  # moments of the others, in the first process, after gather()

    def step_core(self, lr: float, scale: float, norm: float = math.nan) -> dict | None:
        asked: list[bool] = []

        def agree(safe: bool = True) -> bool:
            asked.append(safe)
            return bool(self._ranks.total(np.array([float(safe)]))[0] == self._ranks.size)

        self._whole = {}
        refusal = self._optimizer._step(self._grads, lr, scale, norm, False, agree)
        if not asked:
            agree(False)
        if refusal is not None:
            return next(each for each in self._ranks.gather(refusal) if each)
        self._ranks.spread([(self._owned[name], view) for name, view in self._all.items()])
        return None

    def owned(self, buffer: np.ndarray) -> list[tuple[int, int]] | None:
        first, starts = buffer.ctypes.data, {}
        for owner, gradient in self._all_grads:
            starts.setdefault(owner, (gradient.ctypes.data - first) // buffer.itemsize)
        ends = [*starts.values(), buffer.size]
        self._buffer, self._ranges = buffer, [(ends[i], ends[i + 1]) for i in range(self._ranks.size)]
        return self._ranges

    def grad_norm(self) -> float:
        """The bits of the norm that one process finds: its partial sums, of fixed blocks, are added in their order.
        Of a block that two ranks or more have parts of, all are told the numbers."""
        if self._ranges is None:
            return super().grad_norm()
        edges = {start // BLOCK for start, _ in self._ranges if start % BLOCK}
        count, (start, stop) = -(-self._buffer.size // BLOCK), self._ranges[self._ranks.rank]
        mixed = np.zeros((len(edges), BLOCK))
        for row, edge in zip(mixed, sorted(edges), strict=True):
            begin, end = max(start, edge * BLOCK), min(stop, (edge + 1) * BLOCK)
            if begin < end:
                row[begin - edge * BLOCK : end - edge * BLOCK] = self._buffer[begin:end]
        sums = np.zeros(count)
        first, last = -(-start // BLOCK), stop // BLOCK if stop < self._buffer.size else count
        if first < last:
            sums[first:last] = self._core.square_sums(first, last)
        with np.errstate(all="ignore"):
            told = self._ranks.total(np.concatenate([sums, mixed.ravel()]))
        sums, mixed = told[:count], told[count:].reshape(-1, BLOCK)
        for row, edge in zip(mixed, sorted(edges), strict=True):
            piece = self._buffer[edge * BLOCK : (edge + 1) * BLOCK]
            kept = piece.copy()
            piece[:] = row[: len(piece)]
            sums[edge] = self._core.square_sums(edge, edge + 1)[0]
            piece[:] = kept
        total = float(np.cumsum(sums)[-1])  # in their order
        if 1e-250 < total < 1e300:
            return math.sqrt(total)
        self.complete_gradients()
        return super().grad_norm()

    def complete_gradients(self) -> None:
        if self._ranges is not None:
            self._ranks.spread(self._all_grads)

    def gather(self) -> None:
        """Brings the moments of all processes to the first, as they are now: for what is written next."""
        own = {name: value for name, value in self._optimizer.living_state().items() if isinstance(value, np.ndarray)}
        self._whole = self._ranks.collect(own)

    def living_state(self) -> dict[str, Any]:
        return super().living_state() | self._whole

    def state_in_numbers(self) -> dict[str, Any]:
        return super().state_in_numbers() | self._whole

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | self._whole

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Of a whole state, or of what this process keeps."""
        mine = self._optimizer.living_state()
        super().load_state_dict({name: value for name, value in state.items() if name in mine})
