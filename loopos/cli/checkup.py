"""The quick round of the doctor that ``loopos train`` makes before the first update."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from loopos.files import durable
from loopos.run import metrics
from loopos.run.callbacks import Callback
from loopos.run.messages import to_stderr


def copies_bytes(model: Any, moments: int) -> int:
    """What the quick round holds beside the run: the weights before and after an update, its gradients, and its
    moments, of as many bytes as those of the run. Of a large model it keeps none of these."""
    from loopos.health.doctor.patient import IN_PLACE

    trained = model.parameters(trainable=True)
    whole = trained if getattr(model, "adapter", None) is not None else model.parameters()
    if sum(view.size for view in model.parameters().values()) > IN_PLACE:
        return 0
    return sum(view.nbytes for view in (*whole.values(), *trained.values(), *trained.values())) + moments


class Checkup(Callback):
    """The quick round, once train has checked its arguments and put the weights of a resumed run in place. It prints
    what failed or is remarkable, and a line about all of it, and keeps the whole in the run's folder; the training
    goes on in any case."""

    def __init__(self, ids: np.ndarray, tokenizer: Any, settings: dict[str, Any]):
        mine = {name: value for name, value in settings.items() if name not in ("distributed", "shards")}
        self._ids, self._settings = ids, mine | {"tokenizer": tokenizer}  # checked in this process alone

    def on_train_begin(self, info: dict[str, Any]) -> None:
        from loopos.health.doctor.doctor import doctor as examine

        if info["step"] >= info["max_steps"]:  # a finished run that is resumed: nothing will be trained
            return
        report = examine(info["model"], self._ids, quick=True, **self._settings)
        for line in (*report.problems, report.summary):
            to_stderr(line)
        if info["output_dir"] is not None:
            durable.write_json(Path(info["output_dir"]) / metrics.DOCTOR, report.to_dict())
