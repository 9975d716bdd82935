"""``loopos bench``: runs a suite of loopos.bench, prints its table, writes JSON and a picture."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

WHAT = ("steps", "ops", "scaling", "generate", "show")
BENCH = """Measure how fast this machine trains with LoopOS, beside the machine's own limits and beside other engines
that are installed (PyTorch, JAX, transformers). Each engine has a process of its own and they take turns; close other
programs first.

  steps     whole training steps (the default)
  ops       single operations, forward and backward
  scaling   threads, sequence length, size of the model
  generate  tokens a second of greedy generation
  show      nothing is measured: the tables of results that --json wrote

  loopos bench steps --setting nano,baby --json steps.json --plot steps.png
  loopos bench show steps.json --markdown"""


def add_bench(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", nargs="?", choices=WHAT, metavar="WHAT", help=" | ".join(WHAT))
    parser.add_argument("files", nargs="*", metavar="FILE", help="results to show")
    parser.add_argument("--setting", metavar="S,S", help="models to measure (default: all of the suite)")
    parser.add_argument("--peers", metavar="P,P", help="engines to measure (default: all of the suite)")
    parser.add_argument("--threads", type=int, metavar="I", help="threads of every engine (default: as many as in use)")
    parser.add_argument("--rounds", type=int, metavar="I", help="turns of every engine (default: 5)")
    parser.add_argument("--steps", type=int, metavar="I", help="steps of one turn (default: about a second of them)")
    parser.add_argument("--json", metavar="FILE", help="write the results here")
    parser.add_argument("--plot", metavar="FILE", help="draw them here (.png); needs matplotlib")
    parser.add_argument("--markdown", action="store_true", help="print Markdown tables")


def bench(given: dict[str, Any]) -> int:
    from loopos.bench import suites, tables

    what, files = given.pop("what", "steps"), given.pop("files", [])
    outputs = {name: given.pop(name, None) for name in ("json", "plot")}
    markdown = given.pop("markdown", False)
    for name, path in outputs.items():
        _check_output(name, path)
    if what == "show":
        return _show(files, given, outputs, markdown)
    if files:
        raise ValueError(f"files are for show, got {files[0]!r}")
    result = suites.run(what, say=lambda text: print(text, file=sys.stderr), **given)
    print(tables.render(result, markdown=markdown))
    if outputs["json"] is not None:
        Path(outputs["json"]).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


def _check_output(name: str, path: str | None) -> None:
    """Refused before the measuring, not after it."""
    if path is not None and not Path(path).absolute().parent.is_dir():
        raise ValueError(f"{name}: the folder of {path!r} does not exist")


def _show(files: list[str], given: dict[str, Any], outputs: dict[str, str | None], markdown: bool) -> int:
    from loopos.bench import tables

    if given:
        raise ValueError(f"show measures nothing; got {', '.join(given)}")
    if not files:
        raise ValueError("show needs a FILE that --json wrote")
    for file in files:
        print(tables.render(json.loads(Path(file).read_text(encoding="utf-8")), markdown=markdown))
    return 0
