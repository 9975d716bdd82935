"""Exact match: the model answers greedily, and its text must be the expected one."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from loopos.model import Model

from .examples import Exact
from .intervals import WILSON, Interval, wilson

NORMALISATION = "Unicode NFC, runs of white space as one blank, none at the ends; case and punctuation count"


@dataclass(frozen=True)
class ExactScores:
    """right: (N,); answers: what the model wrote; cut: prompts of which only the end was read."""

    right: np.ndarray
    answers: tuple[str, ...]
    cut: int

    @property
    def accuracy(self) -> float:
        return float(self.right.mean())

    @property
    def interval(self) -> Interval:
        return wilson(int(self.right.sum()), len(self.right))

    def to_dict(self) -> dict[str, Any]:
        return {
            "metric": "exact",
            "accuracy": self.accuracy,
            "interval": self.interval,
            "interval_method": WILSON,
            "examples": len(self.right),
            "cut": self.cut,
            "normalisation": NORMALISATION,
            "answers": self.answers,
        }


def normalised(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


def match(
    model: Model,
    tokenizer: Any,
    examples: Sequence[Exact],
    *,
    max_new_tokens: int = 64,
    eos: Collection[int] = (),
    advance: Callable[[int], Any] = lambda done: None,
) -> ExactScores:
    """Answers each prompt greedily, up to ``max_new_tokens`` or the first token of ``eos``, and compares text with
    text, both :func:`normalised`. Messages become a prompt by the tokenizer's chat template."""
    room = model.config.context_length - max_new_tokens
    if room < 1:
        raise ValueError(
            f"max_new_tokens {max_new_tokens} leaves no room for a prompt in the model's context_length, "
            f"{model.config.context_length}"
        )
    answers, cut = [], 0
    for example in examples:
        ids = np.array(tokenizer.encode(_prompt(tokenizer, example)), np.int64)
        if len(ids) == 0:
            raise ValueError("a prompt must have at least one token, got an empty one")
        cut += len(ids) > room
        answers.append(tokenizer.decode(greedy(model, ids[-room:], max_new_tokens, eos)))
        advance(1)
    right = [normalised(answer) == normalised(each.completion) for answer, each in zip(answers, examples, strict=True)]
    return ExactScores(np.array(right), tuple(answers), cut)


def _prompt(tokenizer: Any, example: Exact) -> str:
    if isinstance(example.prompt, str):
        return example.prompt
    render = getattr(tokenizer, "apply_chat_template", None)
    if render is None:
        raise ValueError("messages need a tokenizer with a chat template, and this model's has none; use prompts")
    return str(render([dict(message) for message in example.prompt], add_generation_prompt=True))


def greedy(model: Model, prompt: np.ndarray, count: int, eos: Collection[int]) -> np.ndarray:
    """The likeliest ``count`` tokens behind ``prompt`` (N,), without the first of ``eos`` and what follows it."""
    written = model.generate(prompt[None], count, temperature=0)[0, len(prompt) :]
    ends = np.flatnonzero(np.isin(written, list(eos)))
    return written[: ends[0]] if len(ends) else written
