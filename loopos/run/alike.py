"""What the processes of one run must have in common."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from loopos.data.examples.data import ExampleData
from loopos.data.examples.data import find as find_examples
from loopos.data.token_file import SUFFIXES as IDS
from loopos.distributed.alone import Alone
from loopos.distributed.tree import SHARDS, rows_of, run_of
from loopos.trainable import trainable_of

from .bundle import build
from .checkpoint import Checkpoint
from .computed import in_precision
from .kinds import kind_of
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


def tell_idle(settings: TrainSettings, source: Any, ranks: int) -> None:
    """A UserWarning for ranks whose shards are all beyond the rows of a micro-batch, so that they compute nothing. Such
    shards are legal: they let a run go on with more rows, or ranks, and the same tree."""
    rows, shards = getattr(source, "batch_size", None), settings.shards or 1
    if rows is None:
        return
    cuts = [[rows_of(shard, shards, rows) for shard in run_of(shards, rank, ranks)] for rank in range(ranks)]
    idle = [rank for rank, own in enumerate(cuts) if all(first == last for first, last in own)]
    if idle:
        named = f"ranks {', '.join(map(str, idle))} never have" if len(idle) > 1 else f"rank {idle[0]} never has"
        work = "compute" if len(idle) > 1 else "computes"
        fewer = "1 rank" if ranks - len(idle) == 1 else f"{ranks - len(idle)} ranks"
        warnings.warn(
            f"train: of {rows} rows in {shards} shards {named} one, and {work} nothing: start {fewer}, or give "
            "a larger batch_size",
            UserWarning,
            stacklevel=3,
        )


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


def before_data(model: Any, settings: TrainSettings, tokenizer: Any, *data: Any) -> dict[str, Any]:
    """By name, what has to be the same in each process before they read ``data`` together: what each computes with, and
    what it was asked for."""
    facts: dict[str, Any] = _built(getattr(model, "products", ""))
    if hasattr(config := getattr(model, "config", model), "to_dict"):
        facts |= {f"{name} (config)": value for name, value in config.to_dict().items()}
    facts |= {f"{name} (settings)": value for name, value in settings.to_dict().items() if name != "threads"}
    return facts | read_alike(tokenizer, *data)


def read_alike(tokenizer: Any, *data: Any) -> dict[str, Any]:
    """By name, what kind of data and of tokenizer these are: so much as decides what processes do together when they
    read them."""
    named = tokenizer is None or (isinstance(tokenizer, str) and tokenizer in ("bytes", "chars"))
    kind = tokenizer if named else type(tokenizer).__name__
    return {"data": [_described(each) for each in data], "tokenizer": kind}


def _built(products: str) -> dict[str, Any]:
    return {name: value for name, value in build(products).items() if name != "threads"}


def _described(data: Any) -> str:
    if isinstance(data, ExampleData):
        return f"examples in {len(data.files)} files" if data.records is None else "a list of examples"
    if isinstance(data, str | os.PathLike):
        if (examples := find_examples(data)) is not None:
            return _described(examples)
        if os.path.isfile(data):
            return f"a file of {'ids' if os.path.splitext(data)[1].lower() in IDS else 'text'}"
        if isinstance(data, os.PathLike) and not os.path.exists(data):
            return f"no file {os.fspath(data)}"
    return type(data).__name__


def compare(ranks: Alone, model: Any, data: Any, settings: TrainSettings, given: Mapping[str, Any]) -> None:
    """What train compares before its first update; in every process at the same time. model: a Model, or one of
    another kind; given: other keywords of train. DifferentRank where one has something else; the errors of train for
    data and settings."""
    held_out, tokenizer = given.get("eval_data"), given.get("tokenizer")
    ranks.same(before_data(model, settings, tokenizer, data, held_out))
    kind = kind_of(model)
    adapter = kind.adapter(model, given.get("adapter"))
    sources, config = kind.open(model, data, held_out, tokenizer, settings, False, ranks)
    settings = in_shards(in_precision(settings, model), True, ranks.size)
    length, read = settings.seq_len or kind.length(config), (sources.train.fingerprint(), sources.tokenizer)
    ranks.same(alike(model, Identity(config, settings, length, *read, adapter), sources))


def alike(model: Any, identity: Identity, sources: Any = None) -> dict[str, Any]:
    """By name, what has to be the same in each process, so that all compute the same update. sources: train, which may
    have a ``digest()`` of what its fingerprint leaves out, and eval, whose batches processes share."""
    about = identity.to_dict()
    facts: dict[str, Any] = _built(model.products)
    digest = about["data"].pop("sha256", None)
    for part in ("config", "settings", "data"):
        facts |= {f"{name} ({part})": value for name, value in about.pop(part).items() if name != "threads"}
    if digest is not None:
        facts["training data (their SHA-256)"] = digest[:_LETTERS]
    facts |= {name: _short(value) for name, value in about.items()}
    train, held_out = getattr(sources, "train", None), getattr(sources, "eval", None)
    if hasattr(train, "digest"):
        facts["pictures (their SHA-256)"] = train.digest()[:_LETTERS]
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
