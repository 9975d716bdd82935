"""What the methods of a Model share: one call at a time, and none that would disturb a run of loopos.train."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

_Method = TypeVar("_Method", bound=Callable[..., Any])


def serialised(method: _Method) -> _Method:
    """Holds the ``lock`` of the object: a method is several calls of the core, and they belong together."""

    @wraps(method)
    def locked(self: Any, *args: Any, **kwargs: Any) -> Any:
        with self.lock:
            return method(self, *args, **kwargs)

    return locked  # type: ignore[return-value]


def refuse_in_training(model: Any, function: str) -> None:
    """RuntimeError while loopos.train trains ``model``."""
    if model._training:
        raise RuntimeError(f"{function}: loopos.train is training this model; call it before train or after it")
