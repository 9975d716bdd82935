"""Writes the figures of benchmarks/results into the pages that quote them, so that nobody types one: the parts between
``<!-- NAME: made by benchmarks/render.py -->`` and ``<!-- NAME ends -->``, and docs/bench_steps.png.

    python benchmarks/render.py            # after new records were put into benchmarks/results
    python benchmarks/render.py --check    # exit code 1 where a page says something else than its record
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lead_time
import learning
import linalg
import recovery
import ten_fixes
import watch_faults

from loopos.bench import comparison, plots, precisions, rank_tables, tables
from loopos.bench.cells import machine, percent, table

ROOT = Path(__file__).resolve().parents[1]
PICTURE = "docs/bench_steps.png"


def saved(name: str) -> dict[str, Any] | None:
    path = ROOT / "benchmarks/results" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def whole(name: str) -> str:
    """Every table of a suite."""
    result = saved(name)
    if result is None:
        return f"Not measured yet: `loopos bench {name}`."
    command = f"`loopos bench {name} --rounds {result['rounds']}`, [{name}.json]({name}.json)"
    return f"{command}\n\n{tables.render(result, markdown=True)}"


def of_learning() -> str:
    result = saved("learning")
    if result is None:
        return "Not measured yet."
    return f"`benchmarks/learning.py`, [learning.json](learning.json): {learning.render(result)}"


def of_ranks() -> str:
    """For the page about several processes: what was measured, the model beside it, and what is computed."""
    result = saved("ranks")
    if result is None:
        return "Not measured yet: `loopos bench ranks`."
    parts = [machine(result), *rank_tables.busy(result), rank_tables.summary(result, True)]
    parts += [rank_tables.check(result, True, 4), *rank_tables.projected(result, True, 4, short=True)]
    return "\n\n".join(part for part in parts if part)


def of_ten_fixes() -> str:
    return ten_fixes.render(saved("ten_fixes"))


def of_linalg() -> str:
    """For the page about the benchmarks: complex Hermitian algebra beside torch.linalg."""
    return linalg.render(saved("linalg"))


def _with_peak(result: dict[str, Any], rows: list[list[str]]) -> list[list[str]]:
    ours = [next((peer for peer in each["peers"] if peer["peer"] == "loopos"), None) for each in result["settings"]]
    cells = [percent(peer["fraction_of_peak"]) if peer else "-" for peer in ours]
    return [*rows, ["float32, of the multiply-add peak", *cells]]


def short() -> str:
    """For the README of the repository: the ratios, the machine, and advice where the record holds a ground for it."""
    result = saved("steps")
    header, rows = comparison.summary(result)
    parts = [comparison.ABOUT_SUMMARY, table(header, _with_peak(result, rows), True), _machine(result)]
    return "\n\n".join([*parts, *advice(result, saved("learning"))])


def long() -> str:
    """For the page about the benchmarks: medians and least times."""
    result = saved("steps")
    header, rows = comparison.summary(result)
    _, least = comparison.summary(result, "min", memory=False)
    rows = (
        [row for row in rows if not row[0].startswith("peak")]
        + [[f"{row[0]}, least times", *row[1:]] for row in least]
        + [row for row in rows if row[0].startswith("peak")]
    )
    return "\n\n".join([_machine(result), comparison.ABOUT_SUMMARY, table(header, _with_peak(result, rows), True)])


def of_pictures() -> str:
    """For the page about the benchmarks: the ratios of captioners and of a classifier."""
    result = saved("pictures")
    header, rows = comparison.summary(result)
    _, least = comparison.summary(result, "min", memory=False)
    times = [row for row in rows if not row[0].startswith("peak")]
    rows = times + [[f"{row[0]}, least times", *row[1:]] for row in least] + rows[len(times) :]
    return "\n\n".join([_machine(result), table(header, rows, True)])


def _machine(result: dict[str, Any]) -> str:
    used = f" {precisions.sentence(result['precisions'])}" if "precisions" in result else ""
    return f"{machine(result)}{used} One run of {result['rounds']} rounds."


def advice(steps: dict[str, Any], learned: dict[str, Any] | None) -> list[str]:
    """A sentence for a user with tiles and one for a user without, where both records are of tiles and what was
    learned is as near to float32 as was promised."""
    ratios = {
        name: [
            value
            for each in steps["settings"]
            if (value := precisions.beside(each["peers"], name, lambda peer: peer["seconds"]["median"])) is not None
        ]
        for name in learning.MOST
    }
    used = steps.get("precisions", {}).get("computed", {})
    if not all(ratios.values()) or not all(used.get(name, "").startswith("tiles") for name in ratios):
        return []
    if learned is None or not learning.apart(learned) or learning.too_far(learned):
        return []
    far = max(1e-5, *map(abs, learning.differences(learned)["bf16x3"]))
    curve = f" (a held-out loss within {far:.5f} of it)"
    x3, x1 = ((f"{min(found):.1f} to {max(found):.1f}") for found in (ratios["bf16x3"], ratios["bf16"]))
    return [
        '**With matrix tiles** (`loopos info` says) train with `precision="bf16x3"` ([how](docs/precision.md)): '
        f"float32's learning curve{curve} at {x3} times the speed of PyTorch in float32; bf16 for more ({x1} times the "
        "speed of PyTorch in bfloat16). **Without tiles** leave precision alone: float32 is the fastest there is, and "
        "the others are computed as it."
    ]


PAGES: dict[str, dict[str, Callable[[], str]]] = {
    "README.md": {"steps": short},
    "benchmarks/README.md": {"steps": long, "pictures": of_pictures, "linalg": of_linalg},
    "benchmarks/results/README.md": {
        "steps": lambda: whole("steps"),
        "ops": lambda: whole("ops"),
        "learning": of_learning,
        "pictures": lambda: whole("pictures"),
        "ranks": lambda: whole("ranks"),
    },
    "docs/distributed.md": {"ranks": of_ranks},
    "docs/captioning.md": {"ten_fixes": of_ten_fixes},
    "docs/watch-doctor.md": {
        "watch_faults": lambda: watch_faults.render(saved("watch_faults")),
        "recovery": lambda: recovery.render(saved("recovery")),
        "lead_time": lambda: lead_time.render(saved("lead_time")),
    },
}


def rendered(page: str, text: str) -> str:
    """``text`` with its parts made anew. ValueError where the page lacks one."""
    for name, make in PAGES[page].items():
        begin, end = f"<!-- {name}: made by benchmarks/render.py -->", f"<!-- {name} ends -->"
        part = re.compile(f"{re.escape(begin)}\n.*?{re.escape(end)}", re.S)
        if len(part.findall(text)) != 1:
            raise ValueError(f"{page} must have one part from {begin} to {end}")
        made = f"{begin}\n\n{make()}\n\n{end}"
        text = part.sub(lambda _, made=made: made, text)
    return text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit code 1 where a page is not up to date"
    )
    args = parser.parse_args()
    stale = []
    for page in PAGES:
        path = ROOT / page
        before = path.read_text(encoding="utf-8")
        after = rendered(page, before)
        if before != after:
            stale.append(page)
            if not args.check:
                path.write_text(after, encoding="utf-8")
    if not args.check:
        plots.draw(saved("steps"), str(ROOT / PICTURE))
    print(
        "\n".join(f"{page}: {'not up to date' if args.check else 'written'}" for page in stale) or "all is up to date"
    )
    return 1 if args.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
