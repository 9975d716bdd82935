"""What a run will take, told by ``loopos train`` before its first update, alone with --dry-run, and by ``loopos
doctor``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import loopos
from loopos.run.callbacks import Callback
from loopos.run.forecast import Forecast, Memory, memory_of, refuse_unfitting, resident_bytes, with_checkpoints
from loopos.run.settings import TrainSettings
from loopos.training import default_settings

from . import checkup


class DryRun(Exception):
    """Ends a run before its first update."""

    def __init__(self, forecast: Forecast):
        super().__init__(str(forecast))
        self.forecast = forecast


class Forecaster(Callback):
    """Made before train, whose memory is still to come. model: what train is given; tell: is handed the forecast, None:
    nothing is trained then. checks: the quick round of the doctor follows, whose copies count."""

    def __init__(self, model: Any, tell: Callable[[Forecast], Any] | None, checks: bool = False):
        self._now, self._tell, self._checks = resident_bytes(), tell, checks
        self._left = int(model._core.held_bytes()) if isinstance(model, loopos.Model) else 0

    def on_train_begin(self, info: dict[str, Any]) -> None:
        if info["step"] >= info["max_steps"] and self._tell is not None:
            return  # a finished run that is resumed
        found = info["forecast"](self._now, self._left)
        if self._checks:
            copies = checkup.copies_bytes(info["model"], found.memory.moments)
            found = replace(found, memory=replace(found.memory, checks=copies))
        if self._tell is None:
            raise DryRun(found)
        self._tell(found)


def of_run(model: loopos.Model, data: Any, tokenizer: Any, settings: dict[str, Any], checks: bool = False) -> Forecast:
    """Of a whole run with these arguments of train, from its start. checks: as of Forecaster. Nothing is trained, and
    nothing stays on the disk of output_dir, on which it is tried how long a checkpoint takes."""
    unwritten = {"output_dir": None, "resume": None, "save_every": None, "keep_best": False}
    try:
        asking = Forecaster(model, None, checks)
        loopos.train(model, data, tokenizer=tokenizer, callbacks=[asking], **settings | unwritten)
    except DryRun as stopped:
        folder, keep_best = settings.get("output_dir"), settings.get("keep_best", False)
        if folder is None:
            return stopped.forecast
        return with_checkpoints(stopped.forecast, model, folder, settings.get("save_every"), keep_best)
    raise AssertionError("a dry run ends before its first update")


def memory_of_run(model: loopos.Model, settings: dict[str, Any]) -> Memory:
    """The part of it that takes no updates to find out. MemoryError, as of train, when it is too much."""
    names = {each.name for each in fields(TrainSettings)} & set(settings)
    whole = default_settings(**{name: settings[name] for name in names})
    seq_len = whole.seq_len or model.config.context_length
    refuse_unfitting(model, whole, seq_len)
    return memory_of(model, whole.to_dict(), seq_len)
