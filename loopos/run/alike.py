"""What the processes of one run must have in common."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from loopos.distributed.tree import SHARDS
from loopos.trainable import trainable_of

from .bundle import build
from .checkpoint import Checkpoint
from .resume import Identity
from .settings import TrainSettings

_LETTERS = 16  # of a digest, where people read it


def in_shards(
    settings: TrainSettings, distributed: bool, ranks: int, checkpoint: Checkpoint | None = None
) -> TrainSettings:
    """The settings with the number of shards of the run: what was asked for, else that of the ``checkpoint``, else the
    usual one. ValueError when there are fewer than ``ranks``."""
    shards = settings.shards
    if shards is None and checkpoint is not None:
        shards = int(checkpoint.state["settings"].get("shards") or 1)
    elif shards is None:
        shards = min(SHARDS, settings.batch_size) if distributed else 1
    if ranks > shards:
        saved = settings.shards is None and checkpoint is not None
        why = "the checkpoint's run has" if saved else "the batch is cut into"
        raise ValueError(
            f"train: {ranks} ranks share the shards of a batch, at least one each, and {why} {shards}: start fewer, or "
            f"a new run with shards={ranks} or more"
        )
    return replace(settings, shards=shards)


def refuse_sharding(settings: TrainSettings) -> None:
    """ValueError for settings that do not go with moments that are shared out."""
    if settings.on_nonfinite == "rewind":
        raise ValueError(
            "train: on_nonfinite='rewind' keeps a copy of all moments, and with shard_optimizer no rank has them all; "
            "take 'skip' or 'halt'"
        )
    if settings.moments != "float32":
        raise ValueError(
            f"train: moments={settings.moments!r} and shard_optimizer both save memory, and do not go together; take "
            "one of them"
        )


def alike(model: Any, identity: Identity, held_out: Any = None) -> dict[str, Any]:
    """By name, what has to be the same in each process, so that all compute the same update. held_out: the batches of
    an evaluation, which processes share."""
    about = identity.to_dict()
    facts: dict[str, Any] = {name: value for name, value in build(model.products).items() if name != "threads"}
    digest = about["data"].pop("sha256", None)
    for part in ("config", "settings", "data"):
        facts |= {f"{name} ({part})": value for name, value in about.pop(part).items() if name != "threads"}
    if digest is not None:
        facts["training data (their SHA-256)"] = digest[:_LETTERS]
    facts |= {name: _short(value) for name, value in about.items()}
    if held_out is not None:
        facts["held-out data (their SHA-256)"] = _digest(part for batch in held_out for part in batch)
    return facts | weights_of(model, "weights")


def weights_of(model: Any, name: str) -> dict[str, str]:
    """The trainable weights, in so few letters that processes can compare them."""
    return {f"{name} (their SHA-256)": _digest(trainable_of(model).values())}


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else hashlib.sha256(text.encode()).hexdigest()[:_LETTERS]


def _digest(arrays: Iterable[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        if array is not None:
            digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
    return digest.hexdigest()[:_LETTERS]
