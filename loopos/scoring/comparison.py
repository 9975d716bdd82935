"""Two models on the same examples: the difference, with an interval that counts only what changed."""

from __future__ import annotations

from typing import NamedTuple

from .choice import ChoiceScores
from .exact import ExactScores
from .intervals import BOOTSTRAP, PAIRED, Interval, bootstrap_ratio, paired_proportions
from .perplexity import WindowLosses

Scores = ChoiceScores | ExactScores | WindowLosses


class Difference(NamedTuple):
    """value: after minus before of ``name``, and its interval by ``method``."""

    name: str
    value: float
    interval: Interval
    method: str


def differences(before: Scores, after: Scores) -> list[Difference]:
    """Of each number of two scores of one kind on the same examples, in the same order."""
    if isinstance(before, WindowLosses):
        change = after.sums - before.sums
        found = Interval(*bootstrap_ratio(change, before.counts))
        return [Difference("loss", after.loss - before.loss, found, BOOTSTRAP)]
    names = {"accuracy": "right"} | ({"accuracy_norm": "right_norm"} if isinstance(before, ChoiceScores) else {})
    return [
        Difference(
            name,
            getattr(after, name) - getattr(before, name),
            paired_proportions(getattr(before, right), getattr(after, right)),
            PAIRED,
        )
        for name, right in names.items()
    ]
