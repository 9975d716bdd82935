"""``loopos doctor``: the checks of the doctor on what ``loopos train`` would train."""

from __future__ import annotations

import argparse
import json
from typing import Any

from . import commands, options

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

    quick, as_json = given.pop("quick"), given.pop("json")
    model, ids, tokenizer, settings, _, _ = commands.prepare(given)
    report = examine(model, ids, quick=quick, tokenizer=tokenizer, **settings)
    print(json.dumps(report.to_dict(), indent=2) if as_json else report)
    return 0 if report.ok else 1
