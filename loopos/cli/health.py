"""The commands that look at a run, a log or an error and never change anything."""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path
from typing import Any

from loopos.data.reading import load, train_eval_split
from loopos.saved import read as read_saved

from . import origin
from .reply import Reply, plain

EXPLAIN = """Read a log or an error of any trainer and print the likely causes in order, each with the lines it rests
on and the check that would decide.

  loopos explain train.log
  loopos explain "{'loss': 0.0, 'grad_norm': nan, 'learning_rate': 0.00018, 'epoch': 0.31}"
  python train.py 2>&1 | loopos explain -"""
DIFF = """Name the first step at which two runs do not have the same bits, the settings that differ, and the steps that
only one of them logged. With --data the runs are done again side by side, from the newest step before of which both
have a checkpoint (or from their seed, if it is near), and the first input and the first operation that differ are
named. Exit code 0 when they are the same, 1 when not.

  loopos diff runs/a runs/b"""
REPORT = """Write one HTML page about a run: curves, events, verdict. It needs no network.

With --compare it says whether the loss of another run is lower, or why the two cannot be compared: other learning
rates, phases or batches.

  loopos report runs/a
  loopos report runs/a --output a.html
  loopos report runs/a --compare runs/b"""
REPLAY = """Do the update again that ended a run, from the bundle that its error names, and compare loss, gradient norm
and place of birth with what was recorded, bit for bit. With a run's folder, its newest bundle. Exit code 0 when it is
reproduced, 1 when not.

  loopos replay runs/a/bundles/step-00000120.safetensors
  loopos replay runs/a --why

A bundle of a watched PyTorch program holds no code. Its operation is done again from its operands; with --import MODULE
the whole step is, by the model that MODULE's loopos_replay() gives, or of a model of transformers by its config.

  loopos replay watched/bundles/step-00000120.safetensors
  loopos replay watched --import train"""
_FILE_NAME = re.compile(r"[^\s:=]*/[^\s:=]+|[^\s:=/]+\.(?:log|txt|jsonl?|out|err|csv|md)", re.I)


def add_explain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what", metavar="FILE|TEXT|-", help="a file, the folder of a run, a text, or - for standard input"
    )


def explain(given: dict[str, Any]) -> Reply:
    from loopos.health.explain.explain import explain

    what = given["what"]
    if what != "-" and _FILE_NAME.fullmatch(what) and not Path(what).exists():
        raise FileNotFoundError(2, "no such file", what)
    found = explain(sys.stdin.buffer if what == "-" else what)
    return Reply({"causes": found.causes} | plain(found), str(found))


def add_diff(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_a", metavar="RUN_A", help="the folder of a run, or its metrics.jsonl")
    parser.add_argument("run_b", metavar="RUN_B", help="another")
    parser.add_argument(
        "--data", metavar="TEXT", help="what both learned (default: what `loopos train` noted, if the same)"
    )


def diff(given: dict[str, Any]) -> Reply:
    from loopos.health.replay.diff import diff

    runs, learned, changed = (given["run_a"], given["run_b"]), _learned(given), None
    try:
        found = diff(*runs, data=learned)
    except ValueError as error:
        if "data" in given or learned is None:
            raise
        found, changed = diff(*runs), f"the text that `loopos train` noted has changed since: {error}"
    told = {"same": found.same, "note": changed} | plain(found)
    return Reply(told, str(found) if changed is None else f"{found}\n{changed}", 0 if found.same else 1)


def _learned(given: dict[str, Any]) -> Any:
    """The data of both runs: those given, or the part of a text that `loopos train` let both learn; else None."""
    if "data" in given:
        return Path(given["data"])
    runs = [given["run_a"], given["run_b"]]
    try:
        noted, other = (origin.Origin.read(run) for run in runs)
        if noted is None or noted != other:
            return None
        ids, _ = load(origin.source(noted.text), read_saved(runs[0]).tokenizer())
    except (OSError, ValueError, LookupError, TypeError):  # the text is gone, say: there is a comparison without it
        return None
    return ids if noted.held_out == 0 else train_eval_split(ids, noted.held_out)[0]


def add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="the folder of a run, or its metrics.jsonl")
    parser.add_argument("--output", metavar="FILE", help="where to write it (default: report.html in the run's folder)")
    parser.add_argument("--compare", metavar="RUN_B", help="another run, whose losses are compared with this one's")


def report(given: dict[str, Any]) -> Reply:
    from loopos.health.report.report import write_report

    found = write_report(given["run"], given.get("output"), given.get("compare"))
    lines = [str(found.path), *([] if found.comparison is None else [str(found.comparison)])]
    return Reply(plain(found), "\n".join(lines))


def add_replay(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", metavar="BUNDLE", help="a bundle, or the folder of a run")
    parser.add_argument("--trace", action="store_true", help="describe every weight, moment and gradient")
    parser.add_argument(
        "--why", action="store_true", help="repeat it with one thing changed at a time and say which heals"
    )
    parser.add_argument("--threads", type=int, metavar="I", help="threads to compute with")
    parser.add_argument(
        "--import",
        metavar="MODULE",
        help="of a watched PyTorch program: the module that gives the model; nothing else of it is imported",
    )


def _replay_watched(given: dict[str, Any]) -> Reply:
    """Of a bundle that loopos.watch wrote."""
    from loopos.watch.replay import replay

    for name in ("trace", "why", "threads"):
        if given.get(name):
            raise ValueError(f"replay: --{name} is for runs of LoopOS itself, and this is a watched program's")
    if (folder := os.getcwd()) not in sys.path:  # as `python -m` has it: the program is where the user is
        sys.path.insert(0, folder)
    found = replay(given["bundle"], given.get("import"))
    return Reply(plain(found), str(found), 0 if found else 1)


def replay(given: dict[str, Any]) -> Reply:
    from loopos.run.bundle import is_watched

    if is_watched(given["bundle"]):
        return _replay_watched(given)
    if given.get("import"):
        raise ValueError("replay: --import is for a watched PyTorch program, and this bundle is LoopOS's own")
    from loopos.health.replay.counterfactuals import counterfactuals
    from loopos.health.replay.replay import replay
    from loopos.threads import threads

    found = replay(given["bundle"], trace=given.get("trace", False), threads=given.get("threads"))
    told, text = plain(found), str(found)
    if given.get("why", False):
        with threads(given.get("threads")):
            why = counterfactuals(given["bundle"])
        told, text = told | {"why": why}, f"{text}\n{why}"
    return Reply(told, text, 0 if found else 1)
