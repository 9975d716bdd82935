"""One update: a whole one, or none of it. And the held-out loss, which is the same forward without a backward."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np

from loopos import _core
from loopos.births.growth import Growth
from loopos.config import ModelConfig
from loopos.data.batches import IGNORE, Batch
from loopos.distributed.alone import Alone, tree_sum
from loopos.distributed.partial import Partial
from loopos.distributed.tree import rows_of
from loopos.errors import Birth

from . import gate
from .leaves import Leaf, leaves_of, valid_of
from .objectives import CrossEntropy
from .settings import TrainSettings


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
        ranks: Alone | None = None,
    ):
        """growth: the record of the run, in which each update that is applied is counted. objective: what is minimised;
        None: next-token cross-entropy. ranks: the processes that the update is shared out to, each of which calls this
        one's like at the same time; None: there is one."""
        self._ranks = Alone() if ranks is None else ranks
        self._partial: Partial | None = None
        self._objective = CrossEntropy(settings) if objective is None else objective
        self._growth = growth
        self._model, self._optimizer, self._source = model, optimizer, source
        self._settings, self._check = settings, check

    def __call__(self, t: int, rate: float) -> Update:
        shards = self._settings.shards or 1
        run, rows = self._ranks.shards(shards), None
        own: tuple[int, int] | None = None
        if self._ranks.size > 1 and hasattr(self._source, "part"):  # this process reads its own rows alone
            unit = self._objective.rows_together
            whole = self._source.batch_size * unit
            own = rows_of(run.start, shards, whole, unit)[0], rows_of(run.stop - 1, shards, whole, unit)[1]
            rows = whole, own[0]
        batches = [self._fetch(t, micro, own) for micro in range(self._settings.grad_accum)]
        counts = [valid_of(batch) for batch in batches]
        units = sum(map(self._objective.units, batches, counts))
        valid, tokens = sum(counts), sum(map(self._objective.positions, batches))
        if rows is not None:
            units, valid, tokens = map(int, self._ranks.total(np.array([units, valid, tokens])))
        if valid == 0:
            return Update(0.0, 0.0, 0, tokens, batches=tuple(batches))
        leaves = leaves_of(batches, t, self._settings, self._objective, units, run, counts, rows)
        with self._model.lock:  # from the gradients to the new weights nobody else may use the model
            return self._compute(t, rate, batches, leaves, valid, tokens, units)

    def _compute(
        self, t: int, rate: float, batches: list, leaves: list[Leaf], valid: int, tokens: int, units: int
    ) -> Update:
        settings, core, objective = self._settings, self._model._core, self._objective
        objective.begin()
        total, raised, somewhere = self._accumulate(leaves)
        loss = total / units + objective.regularize(core)
        norm = self._optimizer.grad_norm()

        birth, factor, made_of = None, 1.0, tuple(batches)
        if somewhere or not (math.isfinite(loss) and math.isfinite(norm)):
            self._optimizer.complete_gradients()
            calls = [call for leaf in leaves for call in leaf.calls]
            spoiled = self._partial is not None and self._partial.spoiled
            found = {
                "spoiled": spoiled,
                "loss": loss,
                "norm": norm,
                "step": t + 1,
                "raised": raised,
                "growth": self._growth,
            }
            birth = gate.agreed_birth(self._ranks, core, calls, **found)
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

    def _accumulate(self, leaves: list[Leaf]) -> tuple[float, dict[int, Any], bool]:
        """(sum of the losses, what was raised by which call of this process, whether any was in any process); the
        gradients of all of them are left in the core."""
        core, objective, ranks, shards = self._model._core, self._objective, self._ranks, self._settings.shards or 1
        partial = None if ranks.size == 1 and (shards == 1 or ranks.fast) else self._sums(shards)
        along_tree = partial is not None and not ranks.fast
        told, raised, call = np.zeros(shards + 1), {}, 0
        for number, leaf in enumerate(leaves, 1):
            add, last = number > 1 and not along_tree, number == len(leaves)
            if partial is not None and last:
                partial.close()
            for left, (ids, targets, keywords) in zip(range(len(leaf.calls))[::-1], leaf.calls, strict=True):
                self._check()
                ranks.at(keywords["step"] + 1)
                keywords |= objective.keywords(ids, targets, keywords)
                sending = partial is not None and last and left == 0
                with ranks.sending(partial, shards) if sending else nullcontext() as final_from:
                    part, _, healthy = core.accumulate(ids, targets, **keywords, add=add, final_from=final_from)
                told[leaf.shard] += part
                if not healthy:
                    raised[call] = core.raised()
                add, call = True, call + 1
            if partial is not None and not add:  # nothing of it counts
                partial.buffer.fill(0)
            if partial is not None and along_tree and not last:
                partial.add(leaf.shard)
        told[shards] = len(raised)
        told = ranks.total(told)
        if ranks.size > 1:
            objective.gather(ranks)
        if partial is not None:
            ranks.reduce(partial, shards)
        return tree_sum(shards, told[:shards]), raised, told[shards] > 0

    def _sums(self, shards: int) -> Partial:
        buffer = self._model._core.gradient_buffer()
        before = self._partial
        if before is None or before.buffer.ctypes.data != buffer.ctypes.data or before.buffer.size != buffer.size:
            owned = None if self._ranks.fast else self._optimizer.owned(buffer)
            self._partial = Partial(buffer, shards, self._ranks.shards(shards), owned)
        self._partial.begin()
        return self._partial

    def _fetch(self, t: int, micro: int, part: tuple[int, int] | None) -> Batch:
        """part: from which row to which is to be read; None: all."""
        self._check()
        return self._source.batch(t, micro) if part is None else self._source.part(t, micro, *part)


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
