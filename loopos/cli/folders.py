"""Models out of folders, and text out of models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from loopos.errors import CheckpointError
from loopos.generation import Piece, Session
from loopos.model import Model
from loopos.precision import to_read
from loopos.saved import read


class Loaded(NamedTuple):
    """A model, and for a run its step and state."""

    model: Model
    step: int | None
    state: dict[str, Any]


def load(
    folder: str,
    dtype: str | None = None,
    weights: str | None = None,
    base: str | None = None,
    precision: str | None = None,
) -> Loaded:
    """The model of a run folder (its newest good checkpoint), of one checkpoint, or of a Hugging Face folder, of which
    F16 and BF16 become float32, exactly, where nothing else is asked for. base, precision: as of
    Model.from_pretrained."""
    saved = read(folder, to_read("from_pretrained", dtype, weights, precision), base, halves="float32")
    model = Model.of(saved, weights, precision)
    if saved.step is None:
        return Loaded(model, None, {})
    if "tokenizer" not in saved.state:
        raise CheckpointError(folder, "state.json is not of a run of loopos.train: it has no tokenizer")
    return Loaded(model, saved.step, dict(saved.state))


def language_model(command: str, given: Mapping[str, Any]) -> Loaded:
    """The model of a command's FOLDER; ValueError of one that gives classes and no next token."""
    loaded = load(given["folder"], **opening(given))
    loaded.model.refuse_classes(command)
    return loaded


def opening(given: Mapping[str, Any]) -> dict[str, Any]:
    """What of a command's options says how to open its FOLDER."""
    return {name: given.get(name) for name in ("weights", "base", "precision")}


def following(
    model: Model, ids: Sequence[int] | np.ndarray, count: int, *, seed: int = 0, **choosing: Any
) -> Iterator[int]:
    """``count`` ids that follow ``ids`` (N,), one by one. Beyond context_length the model sees the newest half of its
    context, again and again; each stretch draws from a seed of its own. What is refused is refused at once."""
    context, session = model.config.context_length, Session(model)
    text = [int(id) for id in ids]
    end = len(text) + count

    def stretch(seed: int) -> Iterator[Piece]:
        keep = len(text) if len(text) < context else max(1, context // 2)
        room = min(context - keep, end - len(text))
        if room < 1 and count:
            raise ValueError(f"generate: context_length {context} leaves no room for a new token")
        return session.generate(text[-keep:], room, seed=seed, **choosing)

    def following_ids(pieces: Iterator[Piece], seed: int) -> Iterator[int]:
        while len(text) < end:
            for piece in pieces:
                text.append(piece.id)
                yield piece.id
            seed = (seed + 1) % 2**64
            if len(text) < end:
                pieces = stretch(seed)

    return following_ids(stretch(seed), seed)


def continued(model: Model, ids: np.ndarray, count: int, **choosing: Any) -> np.ndarray:
    """``ids`` (N,) and the ``count`` that follow."""
    return np.array([*ids, *following(model, ids, count, **choosing)], np.int64)
