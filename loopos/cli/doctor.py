"""The doctor on the command line: ``loopos doctor``, and the quick round that ``loopos train`` makes first."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from loopos.files import durable
from loopos.run import metrics
from loopos.run.callbacks import Callback

from . import options

DOCTOR = """Check model, data, settings and machine before a long training, in seconds: the first loss, labels and
their shift, masks, gradients that reach every parameter and are right, updates of a sensible size, settings that are
used, a batch that can be learned by heart, growth from layer to layer, threads and arithmetic. The options are those of
`loopos train`, and mean the same. Exit code 1 when a check fails; a warning is no failure.

  loopos doctor
  loopos doctor novel.txt --n-layer 12 --learning-rate 0.01
  loopos doctor --config run.toml --json"""


def add_doctor(parser: argparse.ArgumentParser) -> None:
    options.add_train(parser)
    parser.add_argument("--quick", action="store_true", default=False, help="the round that train makes first")
    parser.add_argument("--json", action="store_true", default=False, help="print the report as JSON")


def doctor(given: dict[str, Any]) -> int:
    from loopos.health.doctor.doctor import doctor as examine

    from .commands import prepare

    quick, as_json = given.pop("quick"), given.pop("json")
    model, ids, _, settings, _, _ = prepare(given)
    report = examine(model, ids, quick=quick, **settings)
    print(json.dumps(report.to_dict(), indent=2) if as_json else report)
    return 0 if report.ok else 1


class Checkup(Callback):
    """The quick round, once train has checked its arguments and put the weights of a resumed run in place. It prints
    what failed or is remarkable, and a line about all of it, and keeps the whole in the run's folder; the training
    goes on in any case."""

    def __init__(self, ids: np.ndarray, settings: dict[str, Any]):
        self._ids, self._settings = ids, settings

    def on_train_begin(self, info: dict[str, Any]) -> None:
        from loopos.health.doctor.doctor import doctor as examine

        if info["step"] >= info["max_steps"]:  # a finished run that is resumed: nothing will be trained
            return
        report = examine(info["model"], self._ids, quick=True, **self._settings)
        for line in (*report.problems, report.summary):
            print(line, file=sys.stderr)
        if info["output_dir"] is not None:
            durable.write_json(Path(info["output_dir"]) / metrics.DOCTOR, report.to_dict())
