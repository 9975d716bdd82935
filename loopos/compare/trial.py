"""A trial: one training of a comparison, in a folder of its own; and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from loopos.errors import CheckpointError
from loopos.files import durable

TRIAL, OUTCOME = "trial.json", "outcome.json"
FINISHED, ENDED, CRASHED = "finished", "ended", "crashed"
LAST = 10  # the training loss of a trial is the mean over the last 1/LAST of its updates


@dataclass(frozen=True)
class Trial:
    """One optimizer with one learning rate and one seed, for so many updates. sweep: it only helps to choose a rate."""

    optimizer: str
    rate: float
    seed: int
    steps: int
    sweep: bool = False

    @property
    def name(self) -> str:
        """That of its folder."""
        return f"{'sweep-' if self.sweep else ''}{self.optimizer}-{self.rate!r}-seed{self.seed}"


@dataclass(frozen=True)
class Outcome:
    """What came of a trial.

    status: "finished"; "ended", by a number that is not finite; or "crashed", by anything else.
    steps: updates done. start: SHA-256 of the initial weights; batches: of the digests of all its batches, in order.
    loss: the mean over the last tenth of the updates; eval_loss: held out, after the last; None: not finite, or none.
    quality: what the task measures at the end. seconds: of the updates alone, over every resume.
    peak_bytes: the most memory that the process of the trial held. nonfinite, skipped, clipped: updates.
    born: where the number arose that ended it, in short; said: its birth in full, or why it crashed; bundle: the file
    that repeats the update, from the folder of the trial.
    curves: loss and grad_norm as lists of (step, mean since the point before), eval_loss as (step, seconds, loss).
    """

    status: str
    steps: int
    start: str = ""
    batches: str = ""
    loss: float | None = None
    eval_loss: float | None = None
    quality: Mapping[str, float | None] = field(default_factory=dict)
    seconds: float = 0.0
    peak_bytes: int = 0
    nonfinite: int = 0
    skipped: int = 0
    clipped: int = 0
    born: str = ""
    said: str = ""
    bundle: str | None = None
    curves: Mapping[str, list[list[float | None]]] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        durable.write_json(folder / OUTCOME, asdict(self))

    @staticmethod
    def read(folder: Path) -> Outcome | None:
        """None where the trial is not over, or its file is damaged."""
        try:
            found = durable.load_json(folder / OUTCOME)
        except (OSError, CheckpointError):
            return None
        names = {each.name for each in fields(Outcome)}
        return Outcome(**found) if isinstance(found, dict) and names == set(found) else None
