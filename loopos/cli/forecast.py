"""What a run will take, told by ``loopos train`` before its first update, and alone with --dry-run."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from loopos.run.callbacks import Callback
from loopos.run.forecast import Forecast, memory_of, resident_bytes, time_of


class DryRun(Exception):
    """Ends a run before its first update."""

    def __init__(self, forecast: Forecast):
        super().__init__(str(forecast))
        self.forecast = forecast


class Forecaster(Callback):
    """Made before train, whose memory is still to come. tell: is handed the forecast; dry: nothing is trained then."""

    def __init__(self, held_out: int, tell: Callable[[Forecast], Any], dry: bool):
        """held_out: tokens of one evaluation; 0: none."""
        self._now, self._held_out, self._tell, self._dry = resident_bytes(), held_out, tell, dry

    def on_train_begin(self, info: dict[str, Any]) -> None:
        settings, model = info["settings"], info["model"]
        updates = info["max_steps"] - info["step"]
        if updates <= 0:
            return
        seq_len = settings["seq_len"] or model.config.context_length
        memory = memory_of(model, settings, seq_len, self._now)
        update, forward = time_of(model, settings, seq_len)
        batches = math.ceil(self._held_out / (seq_len * settings["batch_size"]))
        times = (updates // settings["eval_every"] if settings["eval_every"] else 0) or 1
        found = Forecast(memory, update, updates, forward * batches, times if batches else 0)
        if self._dry:
            raise DryRun(found)
        self._tell(found)
