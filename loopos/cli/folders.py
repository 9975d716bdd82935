"""Models out of folders, and text out of models."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from loopos.config import ModelConfig
from loopos.data.tokenizer import tokenizer_from_dict
from loopos.errors import CheckpointError
from loopos.model import Model
from loopos.run.checkpoint import load_checkpoint


class Loaded(NamedTuple):
    """A model, and for a run its tokenizer (None when its data were ids or came through an object) and step."""

    model: Model
    tokenizer: Any
    step: int | None
    state: dict[str, Any]


def load(folder: str, dtype: str | None = None) -> Loaded:
    """The model of a run folder (its newest good checkpoint), of one checkpoint, or of a Hugging Face folder."""
    if (Path(folder) / "config.json").is_file():
        return Loaded(Model.from_pretrained(folder, dtype=dtype), None, None, {})
    checkpoint = load_checkpoint(folder)
    try:
        config = ModelConfig.from_dict(checkpoint.state["config"])
        model = Model(config, dtype=checkpoint.state["dtype"])
        saved = checkpoint.state["tokenizer"]
    except (KeyError, TypeError) as error:
        raise CheckpointError(checkpoint.path, f"state.json is not of a run of loopos.train: {error}") from None
    model.load_state_dict(checkpoint.weights)
    known = saved is not None and saved.get("kind") in ("bytes", "chars")
    return Loaded(model, tokenizer_from_dict(saved) if known else None, checkpoint.step, checkpoint.state)


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
