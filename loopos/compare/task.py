"""What a comparison asks of a task: something to learn, whole but for an optimizer, its rate and a seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, Protocol

from .follow import Follow
from .trial import Trial


class Quality(NamedTuple):
    """A number that a task measures on held-out data after the training. form: how it is shown."""

    name: str
    higher_is_better: bool
    form: str = ".4g"


class Task(Protocol):
    """kind: its name in ``loopos.compare.tasks.TASKS``; unit: what a loss is per, such as "token"."""

    kind: str
    unit: str
    qualities: tuple[Quality, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON; ``from_dict`` of the class makes the same task of it, in another process too."""
        ...

    def steps(self) -> int:
        """Updates of one full trial. Bad data or settings: as of loopos.train."""
        ...

    def train(self, trial: Trial, folder: Path, follow: Follow) -> dict[str, float | None]:
        """Train from the seed of the trial, which alone decides initial weights and batches, with checkpoints in
        ``folder`` and from the newest of them if there is one; tell ``follow`` the initial weights
        (``begins_with``) and have it among the callbacks. Of a sweep, the held-out loss at the end is all that counts.
        Returns a number, or None where it is not finite, for each name of ``qualities``. NonFiniteError ends the trial
        alone."""
        ...
