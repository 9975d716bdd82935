"""What the callbacks for trackers share: which numbers go where, and that a tracker that fails costs no run."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

from loopos.run.callbacks import Callback
from loopos.run.metrics import as_logged

_RENAMED = {"eval_loss": "eval/loss"}
_NO_NUMBERS = ("step", "model")


class Tracker(Callback):
    """Calls :meth:`begin`, :meth:`numbers`, :meth:`finding`, :meth:`saved` and :meth:`end` of the tracker it stands
    for. What one of them raises is a RuntimeWarning, once; from then on nothing more is sent there, and the training
    goes on with the same bits."""

    name = "tracker"

    def __init__(self) -> None:
        self._failed = False

    def begin(self, config: dict[str, Any], step: int, output_dir: Any) -> None:
        """step: updates done before; what the tracker has of later steps is of a run that was cut off."""
        raise NotImplementedError

    def numbers(self, numbers: dict[str, float], step: int) -> None:
        raise NotImplementedError

    def finding(self, sentence: str, step: int) -> None:
        raise NotImplementedError

    def saved(self) -> None:
        """A checkpoint was written: what was logged up to here should last as long."""

    def end(self) -> None:
        raise NotImplementedError

    def on_train_begin(self, info: dict[str, Any]) -> None:
        self._failed = False
        config = {"model": info["model"].config.to_dict(), "train": info.get("settings") or {}}
        config["train"]["max_steps"] = info["max_steps"]
        self._try(self.begin, config, info["step"], info["output_dir"])

    def on_log(self, info: dict[str, Any]) -> None:
        given = as_logged(info)
        numbers = {_RENAMED.get(name, f"train/{name}"): given[name] for name in given if name not in _NO_NUMBERS}
        self._try(self.numbers, {name: _number(value) for name, value in numbers.items()}, info["step"])

    def on_alarm(self, info: dict[str, Any]) -> None:
        self._try(self.finding, info["sentence"], info["step"])

    def on_save(self, info: dict[str, Any]) -> None:
        self._try(self.saved)

    def on_train_end(self, info: dict[str, Any]) -> None:
        self._try(self.end)

    def _try(self, act: Callable[..., None], *arguments: Any) -> None:
        if self._failed:
            return
        try:
            act(*arguments)
        except Exception as error:
            self._failed = True
            text = f"{self.name}: nothing more is logged there, the training goes on: {type(error).__name__}: {error}"
            warnings.warn(text, RuntimeWarning, stacklevel=2)


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
