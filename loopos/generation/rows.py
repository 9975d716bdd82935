"""Several prompts continued at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from loopos import checks

from .cache import feed, refuse_nonfinite
from .sampling import Sampling, UniformStream
from .stopping import Stops, Watch


def checked_prompts(where: str, ids: Any, new: int, vocab_size: int, context_length: int) -> list[np.ndarray]:
    """The rows of ids (B, T), or of a list of 1-D arrays, that a caller of the function ``where`` gave to be continued
    by ``new`` tokens."""
    many = isinstance(ids, list | tuple)
    for number, array in enumerate(ids if many else [ids]):
        name = f"ids[{number}]" if many else "ids"
        if not isinstance(checks.unmasked(where, name, array), np.ndarray) or array.dtype not in (np.int32, np.int64):
            raise TypeError(f"{where}: {name} must be a numpy array of int32 or int64, got {checks.shown(array)}")
        if many and (array.ndim != 1 or len(array) < 1):
            raise ValueError(f"{where}: {name} must have shape (T,) with T >= 1, got {array.shape}")
        if not many and (array.ndim != 2 or array.shape[1] < 1):
            raise ValueError(f"{where}: ids must have shape (B, T) with T >= 1, got {array.shape}")
        bad = np.argwhere((array < 0) | (array >= vocab_size))
        if len(bad):
            at = tuple(int(i) for i in bad[0])
            raise IndexError(
                f"{where}: {name} must be from 0 to {vocab_size - 1}, got {array[at]} at position {list(at)}"
            )
        if array.shape[-1] + new > context_length:
            raise ValueError(
                f"{where}: {array.shape[-1]} prompt tokens and {new} new ones do not fit the context_length "
                f"{context_length}"
            )
    return list(ids)


def continue_rows(
    core: Any,
    prompts: Sequence[np.ndarray],
    new: int,
    sampling: Sampling,
    stops: Stops,
    stream: UniformStream,
    tokenizer: Any = None,
) -> tuple[np.ndarray, np.ndarray]:
    """(tokens (B, n) int64, how many of each row are its own (B,)): up to ``new`` that follow each prompt; fewer when
    all rows have ended. A row that ended is filled with its end-of-text token: the first of them, or what it ended with
    where there is none.

    Rows of unequal length are filled up on the left; nobody sees that, and positions begin behind it."""
    batch, longest = len(prompts), max(map(len, prompts), default=0)
    padding = np.array([longest - len(prompt) for prompt in prompts], np.int64)
    history = np.zeros((batch, longest + new), np.int64)
    for row, prompt in enumerate(prompts):
        history[row, padding[row] : longest] = prompt
    if batch == 0:
        return history[:, longest:], np.zeros(0, np.int64)
    alive, own = np.ones(batch, bool), np.zeros(batch, np.int64)
    watches = [Watch(stops, tokenizer if stops.strings else None) for _ in prompts]
    core.start_generation(batch, longest + new, padding if padding.any() else None)
    at = longest
    while at < longest + new and (alive.any() or not stops):
        logits = feed(core, history[:, :at] if at == longest else history[:, at - 1 : at])
        rows = [history[row, padding[row] : at] for row in range(batch)]
        refuse_nonfinite(core, rows, logits, alive)
        chosen = sampling.choose(logits, rows, stream.draw(batch))
        for row in np.flatnonzero(~alive):
            chosen[row] = stops.eos[0] if stops.eos else history[row, at - 1]
        history[:, at] = chosen
        own += alive
        at += 1
        if not stops:
            continue
        for row in np.flatnonzero(alive):
            watches[row].put(int(chosen[row]))
            alive[row] = not watches[row].ended
    return history[:, longest:at], own
