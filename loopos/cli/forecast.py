"""What a run will take, told by ``loopos train`` before its first update, alone with --dry-run, and by ``loopos
doctor``."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np

import loopos
from loopos.run.callbacks import Callback
from loopos.run.forecast import Forecast, Memory, memory_of, refuse_unfitting, resident_bytes, time_of
from loopos.run.settings import TrainSettings
from loopos.training import default_settings


class DryRun(Exception):
    """Ends a run before its first update."""

    def __init__(self, forecast: Forecast):
        super().__init__(str(forecast))
        self.forecast = forecast


class Forecaster(Callback):
    """Made before train, whose memory is still to come. model: what train is given; settings: of train; tell: is handed
    the forecast, None: nothing is trained then."""

    def __init__(self, model: Any, settings: dict[str, Any], tell: Callable[[Forecast], Any] | None):
        held = settings.get("eval_data")
        self._held_out = 0  # tokens of one evaluation
        if isinstance(held, np.ndarray):
            self._held_out = min(len(held), settings.get("eval_tokens") or len(held))
        self._now, self._tell = resident_bytes(), tell
        self._left = int(model._core.held_bytes()) if isinstance(model, loopos.Model) else 0

    def on_train_begin(self, info: dict[str, Any]) -> None:
        settings, model = info["settings"], info["model"]
        updates = info["max_steps"] - info["step"]
        if updates <= 0 and self._tell is not None:
            return
        seq_len = settings["seq_len"] or model.config.context_length
        memory = memory_of(model, settings, seq_len, self._now, self._left)
        update, forward = time_of(model, settings, seq_len)
        batches = math.ceil(self._held_out / (seq_len * settings["batch_size"]))
        times = (updates // settings["eval_every"] if settings["eval_every"] else 0) or 1
        found = Forecast(memory, update, updates, forward * batches, times if batches else 0)
        if self._tell is None:
            raise DryRun(found)
        self._tell(found)


def of_run(model: loopos.Model, data: Any, tokenizer: Any, settings: dict[str, Any]) -> Forecast:
    """Of a whole run with these arguments of train, from its start. Nothing is trained, nothing is written."""
    unwritten = {"output_dir": None, "resume": None, "save_every": None, "keep_best": False}
    try:
        asking = Forecaster(model, settings, None)
        loopos.train(model, data, tokenizer=tokenizer, callbacks=[asking], **settings | unwritten)
    except DryRun as stopped:
        return stopped.forecast
    raise AssertionError("a dry run ends before its first update")


def memory_of_run(model: loopos.Model, settings: dict[str, Any]) -> Memory:
    """The part of it that takes no updates to find out. MemoryError, as of train, when it is too much."""
    names = {each.name for each in fields(TrainSettings)} & set(settings)
    whole = default_settings(**{name: settings[name] for name in names})
    seq_len = whole.seq_len or model.config.context_length
    refuse_unfitting(model, whole, seq_len)
    return memory_of(model, whole.to_dict(), seq_len)
