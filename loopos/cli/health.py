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
