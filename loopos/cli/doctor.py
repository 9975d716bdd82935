"""``loopos doctor``: the checks of the doctor on what ``loopos train`` would train."""

from __future__ import annotations

import argparse
from typing import Any

from . import commands, options
from .reply import Reply

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


def doctor(given: dict[str, Any]) -> Reply:
    from loopos.health.doctor.doctor import doctor as examine

    quick = given.pop("quick")
    model, data, tokenizer, settings, _, _ = commands.prepare(given)
    report = examine(model, data, quick=quick, tokenizer=tokenizer, **settings)
    return Reply(report.to_dict(), str(report), 0 if report.ok else 1)
