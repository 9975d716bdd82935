"""Multiple choice by likelihood: the model's answer is the choice that it gives the highest probability."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from loopos.model import Model

from .examples import Choice
from .intervals import WILSON, Interval, wilson
from .likelihood import log_likelihoods, request

DELIMITER = " "  # between context and choice, as the harness has it


@dataclass(frozen=True)
class ChoiceScores:
    """right, right_norm: whether each example (N,) was answered rightly, by summed log-likelihood and by that over the
    bytes of the choice. chosen, chosen_norm: the index of the model's answer. cut: requests whose context was cut at
    the front."""

    right: np.ndarray
    right_norm: np.ndarray
    chosen: np.ndarray
    chosen_norm: np.ndarray
    cut: int

    @property
    def accuracy(self) -> float:
        return float(self.right.mean())

    @property
    def accuracy_norm(self) -> float:
        return float(self.right_norm.mean())

    @property
    def interval(self) -> Interval:
        return wilson(int(self.right.sum()), len(self.right))

    @property
    def interval_norm(self) -> Interval:
        return wilson(int(self.right_norm.sum()), len(self.right))

    def to_dict(self) -> dict[str, Any]:
        return {
            "metric": "choice",
            "accuracy": self.accuracy,
            "interval": self.interval,
            "accuracy_norm": self.accuracy_norm,
            "interval_norm": self.interval_norm,
            "interval_method": WILSON,
            "examples": len(self.right),
            "cut": self.cut,
        }


def choose(
    model: Model,
    tokenizer: Any,
    examples: Sequence[Choice],
    *,
    prefix: int | None = None,
    advance: Callable[[int], Any] = lambda done: None,
) -> ChoiceScores:
    """Scores ``examples`` by the rules of the lm-evaluation-harness: a choice stands behind the context and a blank,
    its log-likelihood is summed over its tokens, ties go to the first. acc_norm divides by the length of the choice in
    bytes of UTF-8, without the blank (the harness counts characters there, and calls this acc_bytes). prefix: the token
    that stands for an empty context."""
    room = model.config.context_length
    requests = [
        request(tokenizer, example.context, DELIMITER + choice, prefix, room)
        for example in examples
        for choice in example.choices
    ]
    scores = log_likelihoods(model, requests, advance)
    chosen, chosen_norm, at = [], [], 0
    for example in examples:
        own = scores[at : at + len(example.choices)]
        at += len(example.choices)
        chosen.append(int(np.argmax(own)))
        chosen_norm.append(int(np.argmax(own / [len(choice.encode()) for choice in example.choices])))
    answers = np.array([example.answer for example in examples])
    picked, picked_norm = np.array(chosen), np.array(chosen_norm)
    cut = sum(each.cut > 0 for each in requests)
    return ChoiceScores(picked == answers, picked_norm == answers, picked, picked_norm, cut)
