"""What the trials of a comparison came to: a row for each optimizer, as plain numbers and as text."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from . import rates
from .follow import batches_of
from .same import Same, same
from .task import Quality, Task
from .trial import CRASHED, ENDED, FINISHED, Outcome, Trial
from .verdict import RULE, Verdict, of_losses


@dataclass(frozen=True)
class Spread:
    """A number over the seeds: how many, the mean, the standard deviation between seeds (None of one seed)."""

    count: int
    mean: float
    deviation: float | None

    @staticmethod
    def of(values: Sequence[float | None]) -> Spread | None:
        """None where one of them is missing, or all are."""
        found = [value for value in values if value is not None]
        if not found or len(found) < len(values):
            return None
        mean = math.fsum(found) / len(found)
        squares = math.fsum((value - mean) ** 2 for value in found)
        return Spread(len(found), mean, math.sqrt(squares / (len(found) - 1)) if len(found) > 1 else None)

    def __str__(self) -> str:
        return self.shown(".4f")

    def shown(self, form: str) -> str:
        if self.deviation is None:
            return f"{self.mean:{form}}"
        share = form.endswith("%")  # a share and its spread are shown in the same unit
        return f"{self.mean:{form}} ± " + (f"{100 * self.deviation:.2g}%" if share else f"{self.deviation:.2g}")


@dataclass(frozen=True)
class Row:
    """One optimizer. at_equal_time: the held-out loss when the fastest trial of all was over. births: of its trials
    that ended, the trial's name and the sentence. seconds: of a trial; peak_bytes: the most of any."""

    optimizer: str
    rate: float | None
    rate_from: str
    seeds: int
    finished: int
    loss: Spread | None
    eval_loss: Spread | None
    at_equal_time: Spread | None
    quality: Mapping[str, Spread | None]
    seconds: Spread | None
    peak_bytes: int
    nonfinite: int
    skipped: int
    verdict: Verdict
    births: Mapping[str, str]


@dataclass(frozen=True)
class Summary:
    """rows: the best first; equal_time: the seconds of the shortest finished trial; outcomes: by trial."""

    unit: str
    qualities: tuple[Quality, ...]
    rows: list[Row]
    same: Same
    equal_time: float | None
    outcomes: Mapping[Trial, Outcome]
    steps: int

    def to_dict(self) -> dict[str, Any]:
        rows = []
        for row in self.rows:
            about = asdict(row) | {"verdict": {"kind": row.verdict.kind, "says": row.verdict.says}}
            if row.verdict.difference is not None:
                mean, interval = row.verdict.difference
                bounds = [end if math.isfinite(end) else None for end in interval]
                about["verdict"] |= {"difference": mean, "interval": bounds}
            rows.append(about)
        trials = [
            asdict(trial) | {"name": trial.name} | {k: v for k, v in asdict(outcome).items() if k != "curves"}
            for trial, outcome in self.outcomes.items()
        ]
        about = {"steps": self.steps, "equal_time_seconds": self.equal_time, "rule": RULE, "unit": self.unit}
        return {"optimizers": rows} | about | {"alike": self.same.to_dict(), "trials": trials}

    def cells(self) -> list[list[str]]:
        """The table: names, then a line for each optimizer."""
        equal = "held-out" if self.equal_time is None else f"held-out at {self.equal_time:.3g} s"
        qualities = [quality.name.replace("_", " ") for quality in self.qualities]
        rows = [["optimizer", "rate", "from", "loss", f"held-out at {self.steps} updates", equal, *qualities]]
        rows[0] += ["time s", "memory MB", "NaN", "skipped", "verdict"]
        for row in self.rows:
            rate = "none" if row.rate is None else rates.in_words(row.optimizer, row.rate)
            measured = [
                "–" if (found := row.quality.get(quality.name)) is None else found.shown(quality.form)
                for quality in self.qualities
            ]
            numbers = ["–" if each is None else str(each) for each in (row.loss, row.eval_loss, row.at_equal_time)]
            seconds = "–" if row.seconds is None else row.seconds.shown(".3g")
            counts = [f"{row.peak_bytes / 1e6:.0f}", str(row.nonfinite), str(row.skipped)]
            rows.append([row.optimizer, rate, row.rate_from, *numbers, *measured, seconds, *counts, row.verdict.says])
        return rows

    def __str__(self) -> str:
        rows = self.cells()
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        births = [f"{trial}: {said}" for row in self.rows for trial, said in row.births.items()]
        return "\n".join([*lines, "", *births, self.alike(), RULE])

    def alike(self) -> str:
        if not self.same:
            return f"NOT COMPARABLE: {'; '.join(self.same.differences)}"
        told = [
            f"seed {seed}: weights {about['start'][:12]}, batches {about['batches'][:12]}"
            for seed, about in self.same.seeds.items()
        ]
        return f"same start and same batches in all {self.same.trials} trials ({'; '.join(told)})"


def summarise(
    task: Task, chosen: Mapping[str, tuple[float | None, str]], trials: Mapping[Trial, Outcome], folder: Path
) -> Summary:
    """chosen: by optimizer, its rate and where that is from; trials: those of sweeps too; folder: where they lie."""
    begun = {trial: outcome for trial, outcome in trials.items() if outcome.start}
    alike = same({t.name: (t.seed, outcome.start, batches_of(folder / t.name)) for t, outcome in begun.items()})
    main = {trial: outcome for trial, outcome in trials.items() if not trial.sweep}
    of = {name: {t.seed: o for t, o in main.items() if t.optimizer == name} for name in chosen}
    finished = [outcome for outcome in main.values() if outcome.status == FINISHED]
    shortest = min((outcome.seconds for outcome in finished), default=None)
    verdicts = _verdicts(chosen, of, alike)
    rows = []
    for name, (rate, how) in chosen.items():
        found = list(of[name].values())
        whole = [outcome for outcome in found if outcome.status == FINISHED]
        qualities = {each.name: Spread.of([o.quality.get(each.name) for o in whole]) for each in task.qualities}
        timed = [] if shortest is None else [at_time(outcome, shortest) for outcome in whole]
        swept = {t.name: o for t, o in trials.items() if t.optimizer == name}
        rows.append(
            Row(
                optimizer=name,
                rate=rate,
                rate_from=how,
                seeds=len(found),
                finished=len(whole),
                loss=Spread.of([outcome.loss for outcome in whole]),
                eval_loss=Spread.of([outcome.eval_loss for outcome in whole]),
                at_equal_time=Spread.of(timed),
                quality=qualities,
                seconds=Spread.of([outcome.seconds for outcome in whole]),
                peak_bytes=max((outcome.peak_bytes for outcome in found), default=0),
                nonfinite=sum(outcome.nonfinite for outcome in found),
                skipped=sum(outcome.skipped for outcome in found),
                verdict=verdicts[name],
                births={n: o.said for n, o in swept.items() if o.status == ENDED},
            )
        )
    order = {name: i for i, name in enumerate(chosen)}
    rows.sort(key=lambda row: (_rank(row), order[row.optimizer]))
    steps = max((trial.steps for trial in main), default=0)
    return Summary(task.unit, task.qualities, rows, alike, shortest, trials, steps)


def at_time(outcome: Outcome, seconds: float) -> float | None:
    """The held-out loss of a trial when its updates had taken so long, on a line between two evaluations; before the
    first one, None."""
    points = [(at, loss) for _, at, loss in outcome.curves.get("eval_loss", ())]
    for (early, before), (late, after) in itertools.pairwise(points):
        if early <= seconds <= late:
            if before is None or after is None or late == early:
                return after
            return before + (after - before) * (seconds - early) / (late - early)
    return points[-1][1] if points and seconds >= points[-1][0] else None


def _verdicts(
    chosen: Mapping[str, tuple[float | None, str]], of: Mapping[str, Mapping[int, Outcome]], alike: Same
) -> dict[str, Verdict]:
    found = {}
    for name, (rate, _) in chosen.items():
        ended = {seed: outcome for seed, outcome in of[name].items() if outcome.status != FINISHED}
        unscored = [seed for seed, outcome in of[name].items() if outcome.eval_loss is None]
        if rate is None:
            found[name] = Verdict("no rate", "no rate of the sweep gave a finite held-out loss")
        elif ended:
            seed, first = next(iter(ended.items()))
            many = f"{len(ended)} of {len(of[name])} seeds; " if len(of[name]) > 1 else ""
            kind = ENDED if first.status == ENDED else CRASHED
            said = f"ended at step {first.steps + 1}: {first.born}" if kind == ENDED else f"crashed: {first.said}"
            found[name] = Verdict(kind, f"{said} ({many}seed {seed})")
        elif unscored:
            found[name] = Verdict("not judged", f"its held-out loss is not finite with seed {unscored[0]}")
        elif not alike:
            found[name] = Verdict("not judged", "not judged: not all trials had the same start and batches")
    rest = {name: {s: o.eval_loss for s, o in of[name].items()} for name in chosen if name not in found}
    return found | (of_losses(rest) if rest else {})


def _rank(row: Row) -> float:
    judged = row.verdict.kind in ("best", "within", "worse", "one seed") and row.eval_loss is not None
    return row.eval_loss.mean if judged else math.inf
