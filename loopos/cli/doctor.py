"""``loopos doctor``: the checks of the doctor on what ``loopos train`` would train."""

from __future__ import annotations

import argparse
import time
from functools import partial
from typing import Any

from loopos.distributed.alone import DifferentRank
from loopos.distributed.opening import open_ranks

from . import commands, covariance, forecast, options, pictures, ranked
from .reply import Reply

DOCTOR = """Check model, data, settings and machine before a long training, in seconds: the first loss, labels and
their shift, masks, gradients that reach every parameter and are right, updates of a sensible size, settings that are
used, a batch that can be learned by heart, growth from layer to layer, threads and arithmetic. When none fails, the
last line tells what the run will take in memory and, without --quick, in time. The options are those of `loopos train`,
and mean the same. Started by mpiexec, its processes are compared as train compares them, and one that differs is named;
the rest is looked at by the first. Exit code 1 when a check fails or the memory is too small; a warning is no failure.

TEXT may be the folder of a run of `loopos caption` or `loopos classify`, or of a ViT: then its model is looked at, with
the pictures that it was trained on. Or that of a run of `loopos covariance`: conjugation, floors, definiteness, scale.

  loopos doctor
  loopos doctor novel.txt --n-layer 12 --learning-rate 0.01
  loopos doctor --config run.toml --json
  loopos doctor runs/caption-shapes"""


def add_doctor(parser: argparse.ArgumentParser) -> None:
    options.add_train(parser)
    parser.add_argument("--quick", action="store_true", default=False, help="the round that train makes first")


def doctor(given: dict[str, Any]) -> Reply:
    with ranked.together(given):
        reply = _doctor(given)
    return Reply({}, None, reply.code) if ranked.behind(given) else reply


def _doctor(given: dict[str, Any]) -> Reply:
    from loopos.health.doctor.check_ranks import differs
    from loopos.health.doctor.doctor import doctor as examine
    from loopos.health.doctor.report import DoctorReport

    quick, began = given.pop("quick"), time.perf_counter()
    if given.get("text") is not None:
        rest = {name: value for name, value in given.items() if name != "text"}
        ranks = ranked.started(given)
        for examined in (covariance.examine, pictures.examine):
            if (seen := ranks.share(partial(examined, given["text"], quick, rest))) is not None:
                return seen
    try:
        model, data, tokenizer, settings, _, _ = commands.prepare(given)
    except DifferentRank as error:  # of data that the processes read together
        report = DoctorReport((differs(error),), time.perf_counter() - began, quick)
        return Reply(report.to_dict(), str(report), 1)
    report = examine(model, data, quick=quick, tokenizer=tokenizer, **settings)
    ranks = open_ranks(settings.pop("distributed", None))
    return ranks.share(lambda: _forecast(report, model, data, tokenizer, settings, quick))


def _forecast(report: Any, model: Any, data: Any, tokenizer: Any, settings: dict[str, Any], quick: bool) -> Reply:
    lines, told, code = [str(report)], None, 0 if report.ok else 1
    if report.ok:  # what fails is mended first
        try:
            found = forecast.of_run(model, data, tokenizer, settings) if not quick else None
            memory = found.memory if found else forecast.memory_of_run(model, settings)
            lines.append(str(found) if found else f"forecast: {memory}")
            told = (found or memory).to_dict()
        except MemoryError as error:
            lines.append(f"FAIL memory: {error}")
            told, code = {"refused": str(error)}, 1
    return Reply(report.to_dict() | {"forecast": told}, "\n".join(lines), code)
