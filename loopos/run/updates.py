"""One update: a whole one, or none of it. And the held-out loss, which is the same forward without a backward."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from loopos import _core
from loopos.births.growth import Growth
from loopos.config import ModelConfig
from loopos.data.batches import IGNORE, Batch
from loopos.errors import Birth

from . import gate
from .objectives import CrossEntropy
from .settings import TrainSettings

MicroBatch = tuple[np.ndarray, np.ndarray, dict[str, Any]]


class Update(NamedTuple):
    """What came of update t. loss: the mean over its valid tokens, before it; grad_norm: before clipping."""

    loss: float
    grad_norm: float
    valid_tokens: int
    tokens: int  # positions that went through the model
    birth: Birth | None = None  # why it was refused
    clipped: bool = False  # its gradient was scaled down
    batches: tuple[Batch, ...] = ()  # what it was made of
    measured: Mapping[str, float] = {}

    @property
    def applied(self) -> bool:
        return self.birth is None and self.valid_tokens > 0


class Updater:
    """Takes update t = 0, 1, ...: batches, forward and backward, the gate, clipping, the optimizer.

    Weights and moments change in the optimizer's step only, which is all or nothing. ``check`` is called before each
    micro-batch is fetched and before it is computed, and may raise to abandon the update."""

    def __init__(
        self,
        model: Any,
        optimizer: Any,
        source: Any,
        settings: TrainSettings,
        check: Callable[[], None],
        growth: Growth | None = None,
        objective: CrossEntropy | None = None,
    ):
        """growth: the record of the run, in which each update that is applied is counted. objective: what is minimised;
        None: next-token cross-entropy."""
        self._objective = CrossEntropy(settings) if objective is None else objective
        self._growth = growth
        self._model, self._optimizer, self._source = model, optimizer, source
        self._settings, self._check = settings, check

    def __call__(self, t: int, rate: float) -> Update:
        batches = [self._fetch(t, micro) for micro in range(self._settings.grad_accum)]
        counts = [_valid(batch) for batch in batches]
        units = sum(map(self._objective.units, batches, counts))
        calls, valid = micro_batches(batches, t, self._settings, self._objective, counts, units)
        tokens = sum(map(self._objective.positions, batches))
        if valid == 0:
            return Update(0.0, 0.0, 0, tokens, batches=tuple(batches))
        with self._model.lock:  # from the gradients to the new weights nobody else may use the model
            return self._compute(t, rate, batches, calls, valid, tokens, units)

    def _compute(
        self, t: int, rate: float, batches: list, calls: list[MicroBatch], valid: int, tokens: int, units: int
    ) -> Update:
        settings, core, objective = self._settings, self._model._core, self._objective
        loss, raised = 0.0, {}
        objective.begin()
        for call, (ids, targets, keywords) in enumerate(calls):
            self._check()
            keywords |= objective.keywords(ids, targets, keywords)
            part, _, healthy = core.accumulate(ids, targets, **keywords, add=call > 0)
            loss += part
            if not healthy:
                raised[call] = core.raised()
        loss = loss / units + objective.regularize(core)
        norm = core.grad_norm()

        birth, factor, made_of = None, 1.0, tuple(batches)
        if raised or not (math.isfinite(loss) and math.isfinite(norm)):
            birth = gate.find_birth(core, calls, loss=loss, norm=norm, step=t + 1, raised=raised, growth=self._growth)
        if birth is None:
            factor = gate.clip_factor(norm, settings.max_grad_norm)
            refusal = self._optimizer.step_core(rate, factor, norm)
            if refusal is not None:
                exploded = None if self._growth is None else self._growth.explosion(core.parameters())
                birth = gate.refused_update(refusal, t + 1, exploded)
        if birth is not None:
            return Update(loss, norm, valid, tokens, birth, batches=made_of)
        if self._growth is not None:
            peak = settings.learning_rate
            top = (
                rate * max(1.0, (settings.muon_lr or 0.0) / peak) if peak > 0 else rate
            )  # Muon's matrices have their own
            self._growth.count(settings.optimizer, top, settings.weight_decay, norm * factor)
        return Update(loss, norm, valid, tokens, clipped=factor != 1.0, batches=made_of, measured=objective.measured())

    def _fetch(self, t: int, micro: int) -> Batch:
        self._check()
        return self._source.batch(t, micro)


def _valid(batch: Batch) -> int:
    """How many of its targets count."""
    return int(np.count_nonzero(batch[1] != IGNORE))


def micro_batches(
    batches: Sequence[Batch],
    t: int,
    settings: TrainSettings,
    objective: CrossEntropy | None = None,
    counts: Sequence[int] | None = None,
    units: int | None = None,
) -> tuple[list[MicroBatch], int]:
    """(ids, targets, keywords) of each pass through the core that update t makes of its micro-batches, and how many
    targets count in all. A micro-batch without one is left out. counts: of each, how many count; units: of all, what
    the loss is the mean over; None: they are counted."""
    objective = CrossEntropy(settings) if objective is None else objective
    counts = [_valid(batch) for batch in batches] if counts is None else counts
    units = sum(map(objective.units, batches, counts)) if units is None else units
    common = {
        "scale": 1 / max(1, units),
        "ignore_index": IGNORE,
        "step": t,
        "seed": settings.seed,
    }
    common["label_smoothing"] = settings.label_smoothing

    def call(micro: int) -> MicroBatch:
        first, targets, own = objective.inputs(batches[micro])
        return first, targets, {**common, "micro": micro, **own}

    return [call(m) for m in range(len(batches)) if counts[m]], sum(counts)


def refuse_oversized(model: ModelConfig | Any, batch_size: int, seq_len: int, grad_accum: int) -> None:
    """MemoryError when one update of ``model`` (a ModelConfig is built as float32 at least) cannot fit in the memory
    that is left.

    Counted, as a lower bound: ids and targets (int64) of all micro-batches, which are held together because the
    gradient's scale is known only when all targets are counted; and, for a model yet to be built, what a forward keeps
    of one sequence for its backward, in each layer at least 6 d_model + 2 d_ff numbers a position: the core holds as
    few sequences at once. A model that exists may hold that already, and its core refuses what is too much."""
    kept = 0
    if isinstance(model, ModelConfig):
        kept = 4 * model.n_layer * (6 * model.d_model + 2 * model.d_ff)
    needed, available = seq_len * (batch_size * 16 * grad_accum + kept), _core.available_bytes()
    if needed > available:
        raise MemoryError(
            f"train: one update of batch_size {batch_size}, seq_len {seq_len} and grad_accum {grad_accum} needs at "
            f"least {needed} bytes, about {available:.0f} are available; choose a smaller batch_size or grad_accum"
        )


def evaluate(
    model: Any,
    batches: Iterable[Batch],
    check: Callable[[], None] = lambda: None,
    score: Callable[[Any, Batch], tuple[float, int]] | None = None,
) -> tuple[float, int]:
    """(mean loss over all that is scored, how many that are) of ``batches``, without dropout; (0.0, 0) when there is
    none. ``check`` is called before each batch. score: (sum, how many) of a batch by the core; None: the losses of its
    valid targets."""
    total, count = 0.0, 0
    for batch in batches:
        check()
        ids, targets, *documents = batch
        core = model._core
        part, valid = core.loss(ids, targets, IGNORE, *documents) if score is None else score(core, batch)
        total, count = total + part, count + valid
    return (total / count if count else 0.0), count
