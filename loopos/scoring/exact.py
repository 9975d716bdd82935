"""Exact match: the model answers greedily, and its text must be the expected one."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from loopos.generation.stopping import decoding
from loopos.model import Model
from loopos.text import before_text, prompt_ids

from .examples import Exact
from .intervals import WILSON, Interval, wilson
from .likelihood import BATCH_TOKENS

NORMALISATION = "Unicode NFC, runs of white space as one blank, none at the ends; case and punctuation count"


@dataclass(frozen=True)
class ExactScores:
    """right: (N,); answers: what the model wrote; cut: prompts of which only the end was read, behind what the
    tokenizer puts before a text."""

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
    eos: Collection[int] | None = None,
    advance: Callable[[int], Any] = lambda done: None,
) -> ExactScores:
    """Answers each prompt greedily, up to ``max_new_tokens`` or the first token of ``eos`` (None: the model's
    ``stop_ids``), and compares text with text, both :func:`normalised`. A prompt begins with what the tokenizer puts
    before a text; messages become one by its chat template."""
    room, begin = model.config.context_length - max_new_tokens, before_text(tokenizer)
    if room < 1 + len(begin):
        raise ValueError(
            f"max_new_tokens {max_new_tokens} leaves no room for a prompt in the model's context_length, "
            f"{model.config.context_length}"
        )
    prompts = [_prompt(tokenizer, example) for example in examples]
    if not all(map(len, prompts)):
        raise ValueError("a prompt must have at least one token, got an empty one")
    cut = sum(len(ids) > room for ids in prompts)
    ends = model.stop_ids if eos is None else eos
    written = greedy(model, [_fitted(ids, begin, room) for ids in prompts], max_new_tokens, ends, advance)
    answers = list(map(decoding(tokenizer), written))
    right = [normalised(answer) == normalised(each.completion) for answer, each in zip(answers, examples, strict=True)]
    return ExactScores(np.array(right), tuple(answers), cut)


def _prompt(tokenizer: Any, example: Exact) -> np.ndarray:
    if isinstance(example.prompt, str):
        return np.array(prompt_ids(tokenizer, example.prompt), np.int64)
    render = getattr(tokenizer, "apply_chat_template", None)
    if render is None:
        raise ValueError("messages need a tokenizer with a chat template, and this model's has none; use prompts")
    text = str(render([dict(message) for message in example.prompt], add_generation_prompt=True))
    return np.array(tokenizer.encode(text), np.int64)


def _fitted(ids: np.ndarray, begin: Sequence[int], room: int) -> np.ndarray:
    """The end of a prompt that is longer than ``room``, as the lm-evaluation-harness has it, but behind ``begin`` where
    the prompt has that: without its first token many a model writes nothing of sense."""
    kept = len(begin) if list(ids[: len(begin)]) == list(begin) else 0
    return ids if len(ids) <= room else np.concatenate([ids[:kept], ids[len(ids) - room + kept :]])


def greedy(
    model: Model,
    prompts: Sequence[np.ndarray],
    count: int,
    eos: Collection[int],
    advance: Callable[[int], Any] = lambda done: None,
) -> list[np.ndarray]:
    """The likeliest tokens behind each of ``prompts`` (N,), up to ``count`` or the first of ``eos``, which is left out.
    Prompts of like length are continued together. advance: told how many each batch had."""
    ends = list(eos)
    result = [np.zeros(0, np.int64)] * len(prompts)
    order = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), i))
    while order:
        rows = max(1, BATCH_TOKENS // (len(prompts[order[0]]) + count))
        chosen, order = order[:rows], order[rows:]
        for i, ids in zip(
            chosen, model.generate([prompts[i] for i in chosen], count, temperature=0, eos=ends or None), strict=True
        ):
            new = ids[len(prompts[i]) :]
            result[i] = new[:-1] if len(new) and new[-1] in ends else new
        advance(len(chosen))
    return result
