"""Why an update failed: it is done again with one thing changed at a time, and what heals it is to blame.

The verdicts, in the order in which they are tried:

    "the model"      a weight or a moment was not finite before the update
    "undecided"      the update, done again, is healthy, or nothing below heals it and some rows are healthy alone
    "the rate"       in phase "update": half the learning rate heals it, or at least none at all does; in the others:
                     earlier updates made the weights explode, whatever float64 would still hold
    "the data"       rows that fail when alone are at most half of all, and without them it is healthy
    "the precision"  with float32 products it is healthy, where the run's were of a lesser precision; or in float64
    "the model"      without dropout it is healthy, or each row fails alone whatever is changed
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from loopos.births.growth import Growth
from loopos.data.batches import IGNORE
from loopos.errors import Birth
from loopos.run.bundle import Bundle
from loopos.run.updates import Update

from .replay import Repeater, open_bundle

MAX_NAMED = 8
_OF_EXPLOSIONS = {  # classes of what weights that are far too large end in
    "learning rate too large",
    "weight decay too large",
    "exp overflow",
    "product overflow",
    "sum overflow",
    "norm overflow",
    "inf - inf",
    "0*inf",
}


class Row(NamedTuple):
    """One sequence of the update, both from 0."""

    micro_batch: int
    row: int

    def __str__(self) -> str:
        return f"row {self.row} of micro-batch {self.micro_batch}"


class Trial(NamedTuple):
    """One repetition. changed: what was; healthy: whether every number of it was finite; birth: where one was not."""

    changed: str
    healthy: bool
    birth: Birth | None


@dataclass(frozen=True)
class Counterfactuals:
    """verdict: "the data", "the rate", "the precision", "the model" or "undecided"; why: a sentence; rows: those to
    blame when it is the data; trials: all that was tried, in order."""

    verdict: str
    why: str
    rows: tuple[Row, ...]
    trials: tuple[Trial, ...]

    def __str__(self) -> str:
        tried = [f"  {t.changed}: {'healthy' if t.healthy else t.birth}" for t in self.trials]
        return "\n".join([f"verdict: {self.verdict}. {self.why}", *tried])


def counterfactuals(bundle: str | os.PathLike | Bundle) -> Counterfactuals:
    """Repeat the failed update of ``bundle`` (see :func:`loopos.replay`) without some of its rows, at half the rate,
    with float32 products, in float64 and without dropout, and say what is to blame.

    A row that is left out is replaced by another of its micro-batch whose targets do not count, so that dropout acts on
    the others as it did. A single row to blame among n is found in about 2 log2(n) repetitions of the update.

    Raises FileNotFoundError and CheckpointError as replay does."""
    return _Experiments(open_bundle(bundle)).verdict()


class _Experiments:
    def __init__(self, bundle: Bundle):
        self.bundle = bundle
        self.repeater = Repeater(bundle)
        self.trials: list[Trial] = []
        counted = [(m, r) for m, (_, targets, *_) in enumerate(bundle.batches) for r in range(len(targets))]
        self.rows = [Row(m, r) for m, r in counted if (bundle.batches[m][1][r] != IGNORE).any()]

    def verdict(self) -> Counterfactuals:
        for kind, arrays in (("weight", self.bundle.weights), ("moment", self.bundle.moments)):
            for name, array in arrays.items():
                if bad := int(np.count_nonzero(~np.isfinite(array))):
                    why = f"The {kind} {name} held {bad} numbers that are not finite before the update began"
                    return self.conclude("the model", why + "; go back to an earlier checkpoint")
        birth = self.record("as it was", self.repeater.update()).birth
        if birth is None:
            return self.conclude("undecided", "Done again, the update is healthy: there is nothing to explain")
        rate = self.blame_rate(birth) or self.blame_exploded_weights(birth)
        return rate or self.blame_data() or self.blame_arithmetic()

    def record(self, changed: str, update: Update) -> Trial:
        self.trials.append(Trial(changed, update.birth is None, update.birth))
        return self.trials[-1]

    @property
    def widens(self) -> bool:
        """Whether the update can be done again in float64: not on a base that is stored small."""
        return self.bundle.dtype != "float64" and self.bundle.storage is None

    def heals(self, changed: str, **other: Any) -> bool:
        return self.record(changed, Repeater(self.bundle, **other).update()).healthy

    def conclude(self, verdict: str, why: str, rows: tuple[Row, ...] = ()) -> Counterfactuals:
        return Counterfactuals(verdict, why, rows, tuple(self.trials))

    def blame_rate(self, birth: Birth) -> Counterfactuals | None:
        """Loss and gradients do not depend on the rate, so that only the optimizer's own step can be its doing."""
        rate = self.bundle.learning_rate
        if birth.phase != "update" or rate == 0:
            return None
        if self.record("half the learning rate", self.repeater.update(learning_rate=rate / 2)).healthy:
            return self.conclude("the rate", f"At half of the learning rate {rate:g} the update is healthy")
        if self.record("a learning rate of 0", self.repeater.update(learning_rate=0.0)).healthy:
            return self.conclude(
                "the rate", f"Even half of the learning rate {rate:g} is too large; at 0 the update is healthy"
            )
        return None

    def blame_exploded_weights(self, birth: Birth) -> Counterfactuals | None:
        """Weights that earlier updates made explode overflow sooner or later, in float64 just later."""
        if self.bundle.growth is None or birth.cause_class not in _OF_EXPLOSIONS:
            return None
        exploded = Growth.of(self.bundle.weights, self.bundle.growth).explosion(self.bundle.weights)
        if exploded is None or exploded.kind is None:
            return None
        lower = "weight_decay" if exploded.kind == "weight decay too large" else "rate"
        why = (
            f"At the learning rate {self.bundle.learning_rate:g} earlier updates made the weights explode: "
            f"{exploded.words}. Go back to a checkpoint before that, with a lower {lower}"
        )
        if self.widens and self.heals("in float64", dtype="float64"):
            why += ". (In float64 this one update is still finite: its range is wider, the weights are the same)"
        return self.conclude("the rate", why)

    def blame_data(self) -> Counterfactuals | None:
        if len(self.rows) < 2:
            return None
        failing = tuple(self.failing(self.rows))
        if not failing or 2 * len(failing) > len(self.rows):
            return None
        named = ", ".join(map(self.named, failing[:MAX_NAMED])) + (", ..." if len(failing) > MAX_NAMED else "")
        rest = [row for row in self.rows if row not in failing]
        if not self.record(f"without {named}", self.only(rest)).healthy:
            return None
        one = len(failing) == 1
        why = f"Of {len(self.rows)} rows {'only one fails' if one else f'{len(failing)} fail'} alone ({named}), and "
        return self.conclude("the data", why + f"without {'it' if one else 'them'} the update is healthy", failing)

    def named(self, row: Row) -> str:
        """With the lines of the data that it is made of, where they are known."""
        origins = self.bundle.origins
        known = row.micro_batch < len(origins) and row.row < len(origins[row.micro_batch])
        return f"{row} ({origins[row.micro_batch][row.row]})" if known else str(row)

    def failing(self, rows: list[Row]) -> Iterator[Row]:
        """Those of ``rows`` that fail alone, by halving: a set whose whole is healthy is not looked into."""
        if self.only(rows).birth is None:
            return
        if len(rows) == 1:
            yield from rows
            return
        middle = len(rows) // 2
        yield from self.failing(rows[:middle])
        yield from self.failing(rows[middle:])

    def only(self, rows: Collection[Row]) -> Update:
        """The update of these rows alone."""
        batches = []
        for m, (ids, targets, *documents) in enumerate(self.bundle.batches):
            kept = sorted(row.row for row in rows if row.micro_batch == m)
            out = np.setdiff1d(np.arange(len(ids)), kept)
            ids, targets = ids.copy(), targets.copy()
            targets[out] = IGNORE  # a micro-batch without a target that counts is not computed at all
            if kept:
                ids[out] = ids[kept[0]]
                documents = [each.copy() for each in documents]
                for each in documents:
                    each[out] = each[kept[0]]
            batches.append((ids, targets, *documents))
        return self.repeater.update(batches)

    def blame_arithmetic(self) -> Counterfactuals:
        asked = self.bundle.settings.precision
        if asked != "float32" and self.heals("with float32 products", precision="float32"):
            why = f"With float32 products the update is healthy: what precision {asked} rounds away is what it fails by"
            return self.conclude("the precision", why)
        if self.widens and self.heals("in float64", dtype="float64"):
            why = "In float64 the update is healthy: the numbers are finite, but too large for float32"
            return self.conclude("the precision", why)
        if self.bundle.config.dropout > 0 and self.heals("without dropout", dropout=0.0):
            why = f"Without its dropout of {self.bundle.config.dropout:g} the update is healthy"
            return self.conclude("the model", why)
        if all(self.only([row]).birth is not None for row in self.rows):
            why = "Each row fails alone, in float64 and without dropout too: the weights themselves lead there"
            return self.conclude("the model", why)
        return self.conclude("undecided", "No single change heals it, and some rows are healthy alone")
