"""What a run puts on a model before it trains: an adapter, a head of classes. Both come off again when the run could
not begin."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from loopos.adapters.base import Base
from loopos.adapters.kinds import SPECS
from loopos.checks import shown


def adapter_of(model: Any, asked: Any) -> Any:
    """What a run trains beside a frozen base: what was ``asked`` for, or what is on the model; None: the model itself.

    TypeError for what is no adapter, ValueError where another one is on the model."""
    on = getattr(model, "adapter", None)
    if asked is None:
        return on
    if not isinstance(asked, SPECS):
        names = " or ".join(f"loopos.{cls.__name__}" for cls in SPECS)
        raise TypeError(f"train: adapter must be a {names}, or None, got {shown(asked)}")
    if on not in (None, asked):
        raise ValueError(
            f"train: the model has another adapter, {on}, and adapter={asked}; leave adapter out to train the one that "
            "is there, or take that off with remove_adapter() or merge_adapter()"
        )
    return asked


def put_on(model: Any, adapter: Any, seed: int, undo: ExitStack) -> None:
    """Puts ``adapter`` on, unless it is; ``undo`` takes it off."""
    if adapter is not None and model.adapter is None:
        model.add_adapter(adapter, seed=seed)
        undo.callback(model.remove_adapter)


def give_classes(model: Any, labels: tuple[str, ...], seed: int, undo: ExitStack) -> None:
    """Gives the model a head of these classes, unless it has one of them; ``undo`` gives the old head back."""
    if labels != model.config.labels:
        before = model.head()
        model.with_labels(labels, seed=seed)
        undo.callback(model.take_back, before)


def base_of(model: Any, needed: bool) -> Base | None:
    """The base under a model's adapter; None without one. needed: whether anything is written or read of it: its
    SHA-256 takes a moment."""
    return Base.of(model) if needed and model.adapter is not None else None
