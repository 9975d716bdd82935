"""The commands that look at a run, a log or an error and never change anything."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Any

EXPLAIN = """Read a log or an error of any trainer and print the likely causes in order, each with the lines it rests
on and the check that would decide.

  loopos explain train.log
  loopos explain "{'loss': 0.0, 'grad_norm': nan, 'learning_rate': 0.00018, 'epoch': 0.31}"
  python train.py 2>&1 | loopos explain -"""
DIFF = """Name the first step at which two runs do not have the same bits, and the steps that only one of them logged.
Exit code 0 when they are the same, 1 when not.

  loopos diff runs/a runs/b"""
REPORT = """Write one HTML page about a run: curves, events, verdict. It needs no network.

  loopos report runs/a
  loopos report runs/a --output a.html"""
_FILE_NAME = re.compile(r"[^\s:=]*/[^\s:=]+|[^\s:=/]+\.(?:log|txt|jsonl?|out|err|csv|md)", re.I)


def add_explain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what", metavar="FILE|TEXT|-", help="a file, the folder of a run, a text, or - for standard input"
    )


def explain(given: dict[str, Any]) -> int:
    from loopos.health.explain import explain

    what = given["what"]
    if what != "-" and _FILE_NAME.fullmatch(what) and not Path(what).exists():
        raise FileNotFoundError(2, "no such file", what)
    print(explain(sys.stdin.buffer if what == "-" else what))
    return 0


def add_diff(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_a", metavar="RUN_A", help="the folder of a run, or its metrics.jsonl")
    parser.add_argument("run_b", metavar="RUN_B", help="another")


def diff(given: dict[str, Any]) -> int:
    from loopos.health.diff import diff

    found = diff(given["run_a"], given["run_b"])
    print(found)
    return 0 if found.same else 1


def add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="the folder of a run, or its metrics.jsonl")
    parser.add_argument("--output", metavar="FILE", help="where to write it (default: report.html in the run's folder)")


def report(given: dict[str, Any]) -> int:
    from loopos.health.report import write_report

    print(write_report(given["run"], given.get("output")))
    return 0
