"""What happens when an update is refused: halt, skip or rewind, within a budget."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from loopos.errors import Birth, NonFiniteError
from loopos.trainable import trainable_of

SNAPSHOT_EVERY = 10  # steps between two snapshots of "rewind"
MAX_IN_A_ROW = 2  # refused updates; the third raises
MIN_RATE = 1 / 8  # of the schedule's, however often a run was rewound


def max_in_all(total_steps: int) -> float:
    """How many updates of a run may be refused: max(3, 1 % of them)."""
    return max(3, total_steps / 100)


class SavedPolicy(NamedTuple):
    """The part of a checkpoint that is the policy's: JSON-safe counts, and the arrays of a snapshot or none."""

    counts: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]


class Policy:
    """Told of every update, in order.

    "halt"    a refused update raises.
    "skip"    it changes nothing; the step number, its batch and its learning rate are spent.
    "rewind"  weights, moments and the optimizer's count return to the last snapshot, and training goes on with the next
              step: the steps since the snapshot are spent, their updates undone. Snapshots are taken in memory at the
              start and after every SNAPSHOT_EVERY-th step whose update was applied. From then on the learning rate is
              half of what it would have been, but never less than MIN_RATE of the schedule's.
    With skip and rewind the third refused update in a row raises, and so do more than ``max_in_all``; model and
    optimizer are then as they were before that update.
    """

    def __init__(
        self,
        kind: str,
        total_steps: int,
        model: Any,
        optimizer: Any,
        *,
        step: int = 0,
        saved: SavedPolicy | None = None,
    ):
        """step: updates done; model and optimizer are as that update left them; saved: from the run's checkpoint."""
        self.kind, self.most = kind, max_in_all(total_steps)
        counts = {} if saved is None else saved.counts
        self.refused_in_all = int(counts.get("refused_in_all", 0))
        self.refused_in_a_row = int(counts.get("refused_in_a_row", 0))
        self.rewinds = int(counts.get("rewinds", 0))
        self._model, self._optimizer = model, optimizer
        self._snapshot = _Snapshot(step)
        if kind == "rewind" and saved is not None and saved.arrays:
            self._snapshot = _Snapshot(counts["snapshot"], dict(saved.arrays), dict(counts["numbers"]))
        elif kind == "rewind":
            self._snapshot.take(step, model, optimizer)

    def accepted(self, step: int) -> None:
        """``step`` updates are done and the last one was applied."""
        self.refused_in_a_row = 0
        if self.kind == "rewind" and step % SNAPSHOT_EVERY == 0:
            self._snapshot.take(step, self._model, self._optimizer)

    def refused(self, birth: Birth) -> None:
        """An update was not applied. Returns when the run may go on, else raises NonFiniteError."""
        if self.kind == "halt":
            raise NonFiniteError(birth)
        if self.refused_in_a_row == MAX_IN_A_ROW:
            raise self._exhausted(birth, f"{MAX_IN_A_ROW + 1} updates in a row")
        if self.refused_in_all + 1 > self.most:
            raise self._exhausted(birth, f"{self.refused_in_all + 1} updates of this run, more than {self.most:g},")
        self.refused_in_all += 1
        self.refused_in_a_row += 1
        if self.kind == "rewind":
            self.rewinds += 1
            self._snapshot.restore(self._model, self._optimizer)

    @property
    def rate_factor(self) -> float:
        """What the schedule's learning rate is multiplied by: a power of two, so that 1.0 and every cut are exact."""
        return max(MIN_RATE, 0.5 ** min(self.rewinds, 64))

    def _exhausted(self, birth: Birth, what: str) -> NonFiniteError:
        why = f"on_nonfinite='{self.kind}': {what} had to be refused, so what is wrong repeats itself"
        return NonFiniteError(birth, f"{why}. The last one: {birth}")

    def state(self, step: int) -> SavedPolicy:
        """What a run continued from the checkpoint of ``step`` needs: without the snapshot it would rewind to another
        place than the uninterrupted run. A snapshot of this very step is the checkpoint itself and is left out."""
        counts = {"refused_in_all": self.refused_in_all, "refused_in_a_row": self.refused_in_a_row}
        counts |= {"rewinds": self.rewinds} if self.rewinds else {}
        if self.kind != "rewind" or self._snapshot.step == step:
            return SavedPolicy(counts, {})
        return SavedPolicy(
            counts | {"snapshot": self._snapshot.step, "numbers": self._snapshot.numbers}, self._snapshot.arrays
        )


class _Snapshot:
    """A copy of weights and optimizer: arrays by "weights.<name>" and "moments.<name>", and the optimizer's numbers."""

    def __init__(self, step: int, arrays: dict[str, np.ndarray] | None = None, numbers: dict[str, Any] | None = None):
        self.step, self.arrays, self.numbers = step, arrays or {}, numbers or {}

    def take(self, step: int, model: Any, optimizer: Any) -> None:
        with model.lock:
            self._take(step, model, optimizer)

    def _take(self, step: int, model: Any, optimizer: Any) -> None:
        state = optimizer.state_dict()
        live = {f"weights.{name}": view for name, view in trainable_of(model).items()}  # what is frozen stays
        live |= {f"moments.{name}": value for name, value in state.items() if isinstance(value, np.ndarray)}
        for name, array in live.items():  # into the copy that is there: a run allocates one snapshot
            np.copyto(self.arrays.setdefault(name, np.empty_like(array)), array)
        self.numbers = {name: value for name, value in state.items() if not isinstance(value, np.ndarray)}
        self.step = step

    def restore(self, model: Any, optimizer: Any) -> None:
        moments = {name[len("moments.") :]: a for name, a in self.arrays.items() if name.startswith("moments.")}
        with model.lock:
            optimizer.load_state_dict(moments | self.numbers)
            for name, view in trainable_of(model).items():
                np.copyto(view, self.arrays[f"weights.{name}"])
