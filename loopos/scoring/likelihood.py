"""The log-probability of a continuation after a context, as the lm-evaluation-harness defines it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from loopos.data.batches import IGNORE
from loopos.model import Model

from .finite import losses

BATCH_TOKENS = 2048  # positions of a batch at most, unless one sequence is longer


class Request(NamedTuple):
    """ids (N,) of context and continuation together; scored: how many of them, from the end, are the continuation;
    cut: ids that were left out at the front because they did not fit."""

    ids: np.ndarray
    scored: int
    cut: int = 0


def request(tokenizer: Any, context: str, continuation: str, prefix: int | None, room: int) -> Request:
    """The ids of ``context`` and ``continuation``. Blanks at the end of the context are moved to the continuation; both
    are encoded as one text, and the ids beyond those of the context alone are the continuation, so that a token that
    spans the border counts as its own. An empty context is the token ``prefix``. Of more than ``room`` + 1 ids the last
    ones stay: the model reads all but the very last, ``room`` of them at most.

    ValueError when the continuation has no ids of its own, or more than ``room``, or when a prefix is needed and there
    is none."""
    kept = context.rstrip()
    context, continuation = kept, context[len(kept) :] + continuation
    if context == "":
        if prefix is None:
            raise ValueError(
                "an empty context needs a token before the answer, and the model's folder names no beginning- or "
                "end-of-text token; write a context"
            )
        before, ids = 1, [prefix, *tokenizer.encode(continuation)]
    else:
        before, ids = len(tokenizer.encode(context)), [*tokenizer.encode(context + continuation)]
    scored = len(ids) - before
    if scored < 1:
        raise ValueError(f"the answer {continuation!r} has no tokens of its own behind its context")
    if scored > room:
        raise ValueError(f"an answer of {scored} tokens is longer than the model's context_length, {room}")
    return Request(np.array(ids[-(room + 1) :], np.int64), scored, max(0, len(ids) - room - 1))


def log_likelihoods(
    model: Model, requests: Sequence[Request], advance: Callable[[int], Any] = lambda done: None
) -> np.ndarray:
    """Summed log-probabilities of the continuations, float64 (len(requests),), in nats. Requests of like length are
    computed together; what fills the shorter ones up is behind them, where nothing sees it. advance: told how many
    requests each batch had."""
    result = np.zeros(len(requests))
    order = sorted(range(len(requests)), key=lambda i: (-len(requests[i].ids), i))
    while order:
        length = len(requests[order[0]].ids) - 1
        rows = max(1, BATCH_TOKENS // length)
        chosen, order = order[:rows], order[rows:]
        ids = np.zeros((len(chosen), length), np.int64)
        targets = np.full((len(chosen), length), IGNORE, np.int64)
        for row, i in enumerate(chosen):
            wanted = requests[i]
            end = len(wanted.ids) - 1
            ids[row, :end] = wanted.ids[:-1]
            targets[row, end - wanted.scored : end] = wanted.ids[-wanted.scored :]
        result[chosen] = -losses(model, ids, targets).sum(axis=1)
        advance(len(chosen))
    return result
