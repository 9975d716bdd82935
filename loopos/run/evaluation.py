"""The held-out loss of a run: what it is, which was the best, and for how long there was none better."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from loopos.data.held_out import IGNORE
from loopos.distributed.alone import Alone

from .objectives import CrossEntropy, means
from .updates import evaluate

Scored = tuple[float, int, dict[str, float]]


def shared_out(ranks: Alone, model: Any, source: Any, score: Callable[[Any, Any], Scored] | None) -> list[Scored]:
    """The scores of the batches of ``source``, each made and scored in one of the processes, in the order of the
    batches: their sum is that of one process."""

    def plain(core: Any, batch: Any) -> Scored:
        ids, targets, *documents = batch
        return *core.loss(ids, targets, IGNORE, *documents), {}

    own = {number: (plain if score is None else score)(model._core, batch) for number, batch in _own(source, ranks)}
    scores = {number: each for part in ranks.gather(own) for number, each in part.items()}
    return [scores[number] for number in range(len(scores))]


def _own(source: Any, ranks: Alone) -> Iterator[tuple[int, Any]]:
    """(number, batch) of those of this process."""
    if hasattr(source, "one"):
        for number in range(ranks.rank, len(source), ranks.size):
            yield number, source.one(number)
        return
    for number, batch in enumerate(source):
        if number % ranks.size == ranks.rank:
            yield number, batch


class Evaluation:
    """source: what open_sources made of eval_data, or None; patience: of train; objective: what is minimised; saved:
    :meth:`state` out of the checkpoint that the run goes on from.

    best: {"step", "eval_loss"} of the lowest loss among the evaluations that :meth:`judge` was told of; None before."""

    def __init__(
        self,
        source: Any,
        patience: int | None,
        saved: Any = None,
        objective: CrossEntropy | None = None,
        ranks: Alone | None = None,
    ):
        self._source, self._patience, self._objective = source, patience, objective
        shared = ranks is not None and ranks.size > 1 and (objective is None or objective.apart)
        self._ranks = ranks if shared else None  # the processes that the batches are shared out to
        self.best: dict[str, Any] | None = None
        self._worse = 0  # evaluations since the best
        self._told = False  # that nothing is scored
        if isinstance(saved, Mapping):
            self._worse = int(saved.get("worse", 0))
            best = saved.get("best")
            self.best = dict(best) if isinstance(best, Mapping) else None

    def __bool__(self) -> bool:
        return self._source is not None

    def score(self, model: Any, check: Callable[[], None]) -> dict[str, Any]:
        """{"eval_loss": mean over all targets scored, "eval_tokens": how many, "eval_share": of eval_data,
        "eval_seconds"} and what the objective measures, with "eval_" before. Without a single target the loss is NaN,
        and a UserWarning says so."""
        began = time.perf_counter()
        sums: dict[str, float] = {}
        by_objective = None if self._objective is None else self._objective.score
        batches = self._source
        if self._ranks is not None:
            batches, by_objective = shared_out(self._ranks, model, self._source, by_objective), lambda core, each: each

        def score(core: Any, batch: Any) -> tuple[float, int]:
            loss, count, more = by_objective(core, batch)
            for name, value in more.items():
                sums[name] = sums.get(name, 0.0) + value
            return loss, count

        if self._objective is not None:
            self._objective.begin_scoring()
        loss, count = evaluate(model, batches, check, None if by_objective is None else score)
        if count == 0:
            loss = math.nan  # 0 would be the best loss there is
        if count == 0 and not self._told:
            self._told = True
            warnings.warn(
                f"train: every target of eval_data was {IGNORE}, so no held-out loss is known: eval_loss is NaN (null "
                "in metrics.jsonl); targets of 0..vocab_size-1 are what is scored",
                UserWarning,
                stacklevel=5,
            )
        seconds = time.perf_counter() - began
        told = {"eval_loss": loss, "eval_tokens": count, "eval_share": self._source.share, "eval_seconds": seconds}
        return told | {f"eval_{name}": value for name, value in means(sums).items()}

    def judge(self, step: int, loss: float) -> bool:
        """Whether the loss after ``step`` updates is the lowest so far. One that is not finite never is."""
        if math.isfinite(loss) and (self.best is None or loss < self.best["eval_loss"]):
            self.best, self._worse = {"step": step, "eval_loss": loss}, 0
            return True
        self._worse += 1
        return False

    @property
    def exhausted(self) -> bool:
        """``patience`` evaluations in a row were none better."""
        return self._patience is not None and self._worse >= self._patience

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"best": self.best, "worse": self._worse}
