"""loopos.watch and its doctor on programs whose truth is known: faults, healthy programs, silent bugs.

Each fault (tests/support/watched/faults*.py) is met by four tools: loopos.watch; PyTorch's anomaly mode; sherlorch, if
it can be imported; and a detector of forward hooks, as pytorch-nan-detector (which the index had not): the first
module whose output is not finite, with a guard of gradients. An operation is right when its name and its pass are. Of
anomaly mode the name of the backward function counts, whichever pass the fault is of.

    python benchmarks/watch_faults.py benchmarks/results/watch_faults.json      # about five minutes of one core
    python benchmarks/render.py                                                # the table, into docs/watch-doctor.md
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests/support"))

STEPS = 8  # of each healthy program
EACH = 3  # architectures of each plant


def cases() -> Iterator[Callable[[], Any]]:
    """One function a fault; each is called anew for every tool."""
    from watched import faults, faults_natural, faults_ordinary

    names, turn = list(faults.ARCHITECTURES), 0
    for plant in faults.PLANTS:
        for _ in range(EACH):
            name = names[turn % len(names)]
            yield lambda name=name, plant=plant, turn=turn: faults.planted(name, plant, turn)
            turn += 1
    for name in names:
        yield lambda name=name: faults.weight_not_finite(name)
    for name in ("ViT", "Whisper", "CLIP", "conv net", "covariance"):
        yield lambda name=name: faults.input_not_finite(name)
    for name in names:
        if name not in ("conv net", "LSTM"):
            yield lambda name=name: faults.linear_overflow(name)
    for make in [*faults_natural.NATURAL, *faults_ordinary.ORDINARY]:

        def seeded(make: Callable[[], Any] = make) -> Any:
            import torch

            torch.manual_seed(0)
            return make()

        yield seeded


def right_op(case: Any, name: str) -> bool:
    from watched.judged import LINEAR, plain_op

    wanted = LINEAR if case.truth.op == "linear" else {case.truth.op}
    short = plain_op(name).strip("_").lower()
    return short in {each.strip("_").replace("native_", "") for each in wanted} | wanted


def by_watch(case: Any) -> dict[str, bool]:
    from watched.judged import told, verdict

    return verdict(case, told(case))


def by_anomaly_mode(case: Any) -> dict[str, bool]:
    import torch

    program, said = case.program, ""
    try:
        with torch.autograd.detect_anomaly(check_nan=True):
            program.loss_fn(program.model, program.batch).backward()
    except RuntimeError as error:
        said = str(error)
    found = re.search(r"Function '(\w+?)Backward\d*'", said)
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", found[1]).lower() if found else ""
    return {"told": bool(found), "op": bool(found) and right_op(case, name), "element": False, "cause": False}


def by_sherlorch(case: Any) -> dict[str, bool]:
    import sherlorch
    import torch

    program = case.program
    with sherlorch.trace() as tracker:
        tracker.watch(program.model)
        loss = program.loss_fn(program.model, program.batch)
        ends = [loss]
        if not tracker.has_issue(loss):
            loss.backward()
            ends = [p.grad for p in program.model.parameters() if p.grad is not None and tracker.has_issue(p.grad)]
    names = []
    for end in ends[:1]:
        try:
            names = re.findall(r"Culprit #\d+: \[\d+\] (\w+)", str(tracker.diagnose(end)))
        except (KeyError, ValueError, RuntimeError):
            names = []
    del torch
    forward = case.truth.phase == "forward"
    return {
        "told": bool(names),
        "op": forward and len(names) >= 1 and right_op(case, names[0]),
        "element": False,
        "cause": False,
    }


def by_hooks(case: Any) -> dict[str, bool]:
    import torch

    program, first = case.program, []

    def see(name: str) -> Callable[..., None]:
        def hook(_: Any, __: Any, output: Any) -> None:
            if isinstance(output, torch.Tensor) and not bool(torch.isfinite(output).all()) and not first:
                first.append(name)

        return hook

    hooks = [module.register_forward_hook(see(name)) for name, module in program.model.named_modules()]
    loss = program.loss_fn(program.model, program.batch)
    if not first:
        loss.backward()
        first += [n for n, p in program.model.named_parameters() if p.grad is not None and not p.grad.isfinite().all()][
            :1
        ]
    for hook in hooks:
        hook.remove()
    return {"told": bool(first), "op": False, "element": False, "cause": False}


TOOLS = {
    "loopos.watch": by_watch,
    "anomaly mode": by_anomaly_mode,
    "sherlorch": by_sherlorch,
    "forward hooks": by_hooks,
}


def faults() -> dict[str, Any]:
    tools = dict(TOOLS)
    try:
        import sherlorch  # noqa: F401
    except ImportError:
        del tools["sherlorch"]
    counts = {name: dict.fromkeys(("told", "op", "element", "cause"), 0) for name in tools}
    missed, names = [], []
    for make in cases():
        names.append(make().name)
        for tool, judge in tools.items():
            try:
                verdict = judge(make())
            except Exception as error:  # of the tool
                verdict = dict.fromkeys(counts[tool], False) | {"error": repr(error)}
            for key in counts[tool]:
                counts[tool][key] += verdict[key]
            if tool == "loopos.watch" and not all(verdict.values()):
                missed.append([names[-1], verdict])
    return {"cases": len(names), "counts": counts, "missed": missed, "names": names}


def programs() -> list[Callable[[], Any]]:
    from watched import healthy_examples, healthy_layers, healthy_loops, healthy_training

    examples = (healthy_examples.EXAMPLES, healthy_layers.EXAMPLES, healthy_training.EXAMPLES, healthy_loops.LOOPS)
    return [make for each in examples for make in each]


def healthy() -> dict[str, Any]:
    import torch

    import loopos

    alarms: list[str] = []
    made, steps = 0, 0
    for make in programs():
        torch.manual_seed(0)
        program = make()
        made += 1
        alarms += [f"doctor, {make.__name__}: {each}" for each in program.examined().problems]
        step = program.step or program.plain_step
        try:
            with loopos.watch(program.model, program.optimizer) as watch:
                for _ in range(STEPS):
                    step()
                    steps += 1
            alarms += [f"watch, {make.__name__}: {each}" for each in (*watch.births, *watch.findings)]
        except loopos.NonFiniteError as error:
            alarms.append(f"watch, {make.__name__}: {error}")
        alarms += [f"doctor after, {make.__name__}: {each}" for each in program.examined().problems]
    return {"programs": made, "steps": steps, "alarms": alarms}


def silent() -> dict[str, Any]:
    from watched.silent import ELSEWHERE, SILENT, seeded

    told, cause, bare, quiet = 0, 0, 0, 0
    for bug in SILENT.values():
        program = seeded(bug.make, True)
        lines = [str(each) for each in program.examined().problems if each.name == bug.check]
        told += bool(lines)
        cause += bool(lines) and all(any(word in line for line in lines) for word in bug.cause)
        import loopos

        program = seeded(bug.make, True)
        report = loopos.watch.doctor(program.model, program.optimizer, program.batch, program.loss_fn)
        bare += any(each.name == bug.check for each in report.problems)
        quiet += not seeded(bug.make, False).examined().problems
    return {
        "bugs": len(SILENT),
        "told": told,
        "cause": cause,
        "bare": bare,
        "quiet": quiet,
        "elsewhere": len(ELSEWHERE),
    }


def render(result: dict[str, Any] | None) -> str:
    if result is None:
        return "Not measured yet."
    faults, healthy, silent = result["faults"], result["healthy"], result["silent"]
    total = faults["cases"]
    lines = [
        f"{total} faults; right in how many (`benchmarks/watch_faults.py`, PyTorch {result['torch']}):",
        "",
        "| tool | something told | operation and pass | and its element | class of the cause |",
        "|---|---|---|---|---|",
    ]
    for tool, count in faults["counts"].items():
        shares = [f"{count[key]} ({count[key] / total:.0%})" for key in ("told", "op", "element", "cause")]
        lines.append(f"| {tool} | {' | '.join(shares)} |")
    lines += [
        "",
        f"{healthy['programs']} healthy programs, {healthy['steps']} watched steps, the doctor before and after: "
        f"{len(healthy['alarms'])} alarms. Silent bugs: {silent['told']} of {silent['bugs']} told, "
        f"{silent['cause']} with "
        f"their cause, {silent['bare']} with model, optimizer, batch and loss alone; without the bug "
        f"{silent['quiet']} of {silent['bugs']} have no remark.",
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", nargs="?", help="a JSON file to write")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    import torch

    torch.set_num_threads(1)
    began = time.perf_counter()
    result = {"torch": torch.__version__, "faults": faults(), "healthy": healthy(), "silent": silent()}
    result["seconds"] = round(time.perf_counter() - began)
    print(render(result))
    for missed in result["faults"]["missed"]:
        print(missed)
    print("\n".join(result["healthy"]["alarms"]))
    if args.record:
        Path(args.record).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return int(bool(result["healthy"]["alarms"]))


if __name__ == "__main__":
    sys.exit(main())
