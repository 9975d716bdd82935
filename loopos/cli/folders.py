"""Models out of folders, and text out of models."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from loopos import storage
from loopos.errors import CheckpointError
from loopos.model import Model
from loopos.saved import read


class Loaded(NamedTuple):
    """A model, and for a run its step and state."""

    model: Model
    step: int | None
    state: dict[str, Any]


def load(folder: str, dtype: str | None = None, weights: str | None = None) -> Loaded:
    """The model of a run folder (its newest good checkpoint), of one checkpoint, or of a Hugging Face folder."""
    saved = read(folder, storage.arithmetic(weights, dtype))
    model = Model.of(saved, weights)
    if saved.step is None:
        return Loaded(model, None, {})
    if "tokenizer" not in saved.state:
        raise CheckpointError(folder, "state.json is not of a run of loopos.train: it has no tokenizer")
    return Loaded(model, saved.step, dict(saved.state))


def continued(model: Model, ids: np.ndarray, count: int, *, seed: int = 0, **choosing: Any) -> np.ndarray:
    """``ids`` (N,) and ``count`` more. Beyond context_length the model sees the newest half of its context, again and
    again; each stretch draws from a seed of its own."""
    context = model.config.context_length
    result = np.asarray(ids, np.int64)
    end = len(result) + count
    while len(result) < end:
        keep = len(result) if len(result) < context else max(1, context // 2)
        room = min(context - keep, end - len(result))
        if room < 1:
            raise ValueError(f"generate: context_length {context} leaves no room for a new token")
        stretch = model.generate(result[None, len(result) - keep :], room, seed=seed, **choosing)
        result, seed = np.concatenate([result, stretch[0, keep:]]), (seed + 1) % 2**64
    return result
