"""What becomes of a PyTorch training in which a fault happens: plain, and watched with policy="skip".

One small transformer, a fault of each kind after 15 of 36 steps, five seeds. A run ends "healthy" when its weights are
finite and its last loss is within a tenth of that of the run without a fault after as many updates; "stopped" when it
was ended by a NonFiniteError that names a birth; else "ruined". In controls nothing happens, and nothing may be done to
them.

    python benchmarks/recovery.py benchmarks/results/recovery.json     # about two minutes of one core
    python benchmarks/render.py                                        # the table, into docs/watch-doctor.md
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import loopos

try:
    import torch
    from torch.nn import functional as F
except ModuleNotFoundError:  # render.py wants the table alone
    torch = F = None

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests/support"))

STEPS, AT, SEEDS, CONTROLS = 36, 15, 5, 20
NAN, INF = float("nan"), float("inf")


class Training:
    """A model that learns the next token of repeating rows."""

    def __init__(self, seed: int):
        from watched.layers import Causal

        torch.manual_seed(seed)
        self.model = Causal()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), 3e-3)
        self.generator = torch.Generator().manual_seed(seed)
        self.step = 0

    def batch(self) -> torch.Tensor:
        start = torch.randint(0, 10, (8, 1), generator=self.generator)
        return (start + torch.arange(9)) % 10 + 5

    def loss(self, ids: torch.Tensor) -> torch.Tensor:
        logits = self.model(ids[:, :-1])
        return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())

    @property
    def now(self) -> bool:
        return self.step == AT


def _loss(change: Callable[[Training, torch.Tensor, torch.Tensor], torch.Tensor]) -> Callable[..., Any]:
    """A fault of the loss of one step."""

    def wrapped(run: Training, ids: torch.Tensor) -> torch.Tensor:
        loss = run.loss(ids)
        return change(run, loss, ids) if run.now else loss

    return wrapped


def _masked(run: Training, loss: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    logits = run.model(ids[:, :-1]).masked_fill(torch.arange(20) == int(ids[0, 1]), -INF)
    return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())


def _ignored(run: Training, loss: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(run.model(ids[:, :-1]).flatten(0, 1), torch.full((64,), -100))


def _naive(run: Training, loss: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    e = (100 * run.model(ids[:, :-1])).exp()
    return loss - (e / e.sum(-1, keepdim=True)).mean() + 0 * (e * 1e38).sum()


def _deviation(run: Training, loss: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    return loss + run.model(ids[:1, :1]).std(0).mean()


def _root(run: Training, loss: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    return loss + (loss - loss.detach()).abs().sqrt()


def _length(run: Training, loss: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    return loss / torch.zeros(())


def _gradient(value: float) -> Callable[..., Any]:
    def wrapped(run: Training, ids: torch.Tensor) -> torch.Tensor:
        logits = run.model(ids[:, :-1])
        if run.now:
            logits.register_hook(lambda g: g * value)
        return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())

    return wrapped


def _twice(run: Training, ids: torch.Tensor) -> torch.Tensor:
    return run.loss(ids) * (NAN if run.step in (AT, AT + 1) else 1.0)


def _for_ever(run: Training, ids: torch.Tensor) -> torch.Tensor:
    return run.loss(ids) * (NAN if run.step >= AT else 1.0)


def _now_and_then(run: Training, ids: torch.Tensor) -> torch.Tensor:
    return run.loss(ids) * (NAN if run.step % 10 == 0 and run.step else 1.0)


def _weight(run: Training, ids: torch.Tensor) -> torch.Tensor:
    if run.now:
        with torch.no_grad():
            run.model.head.weight[1, 2] = NAN
    return run.loss(ids)


def _moment(run: Training, ids: torch.Tensor) -> torch.Tensor:
    if run.now:
        run.optimizer.state[run.model.head.weight]["exp_avg"][1, 2] = NAN
    return run.loss(ids)


def _rate(run: Training, ids: torch.Tensor) -> torch.Tensor:
    run.optimizer.param_groups[0]["lr"] = 1e38 if run.now else 3e-3
    return run.loss(ids)


KINDS: dict[str, Callable[[Training, torch.Tensor], torch.Tensor]] = {
    "a loss that is NaN": _loss(lambda run, loss, ids: loss * NAN),
    "a loss that is inf": _loss(lambda run, loss, ids: loss + INF),
    "a loss times 1e48": _loss(lambda run, loss, ids: loss * 1e38 * 1e10),
    "every label masked": _loss(_ignored),
    "a label's logit masked": _loss(_masked),
    "exp without the maximum": _loss(_naive),
    "a deviation of one row": _loss(_deviation),
    "the slope of a root at 0": _loss(_root),
    "a length of 0": _loss(_length),
    "gradients that are NaN": _gradient(NAN),
    "gradients of 1e36": _gradient(3e38),
    "NaN twice in a row": _twice,
    "NaN every ten steps": _now_and_then,
    "NaN for ever": _for_ever,
    "a weight set to NaN": _weight,
    "a moment set to NaN": _moment,
    "a rate of 1e38 once": _rate,
}


def train(kind: str | None, seed: int, watched: bool) -> tuple[str, list[float], int]:
    """(how it ended, its losses, interventions)."""
    run = Training(seed)
    loss_of = KINDS[kind] if kind else Training.loss
    watch = loopos.watch(run.model, run.optimizer, policy="skip") if watched else None
    losses: list[float] = []
    try:
        for run.step in range(STEPS):
            ids = run.batch()
            if watch is not None:
                losses.append(float(watch.step(lambda ids=ids: loss_of(run, ids))))
                continue
            run.optimizer.zero_grad()
            loss = loss_of(run, ids)
            loss.backward()
            run.optimizer.step()
            losses.append(float(loss.detach()))
    except loopos.NonFiniteError as error:
        return ("stopped" if error.birth.cause_class != "unknown" else "stopped, cause unknown"), losses, watch.skipped
    finite = all(bool(parameter.isfinite().all()) for parameter in run.model.parameters())
    return ("finite" if finite else "ruined"), losses, 0 if watch is None else watch.skipped


def measure() -> dict[str, Any]:
    controls = {seed: train(None, seed, False)[1] for seed in range(CONTROLS)}
    touched = sum(train(None, seed, True)[2] for seed in range(CONTROLS))
    rows = {}
    for kind in KINDS:
        rows[kind] = {}
        for watched in (False, True):
            ends = []
            for seed in range(SEEDS):
                end, losses, refused = train(kind, seed, watched)
                if end == "finite":  # compared after as many updates
                    end = "healthy" if losses[-1] <= 1.1 * controls[seed][-1 - refused] + 0.05 else "ruined"
                ends.append(end)
            rows[kind]["watched" if watched else "plain"] = {end: ends.count(end) for end in sorted(set(ends))}
        print(kind, rows[kind], flush=True)
    return {"torch": torch.__version__, "rows": rows, "controls": CONTROLS, "interventions": touched}


def render(result: dict[str, Any] | None) -> str:
    if result is None:
        return "Not measured yet."
    lines = [
        f"{len(result['rows'])} kinds of fault, {SEEDS} seeds each (`benchmarks/recovery.py`, PyTorch "
        f"{result['torch']}):",
        "",
        '| fault after 15 of 36 steps | plain | watched, policy="skip" |',
        "|---|---|---|",
    ]
    for kind, row in result["rows"].items():
        said = [", ".join(f"{count} {end}" for end, count in row[how].items()) for how in ("plain", "watched")]
        lines.append(f"| {kind} | {' | '.join(said)} |")
    lines += ["", f"{result['controls']} controls: {result['interventions']} interventions."]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", nargs="?", help="a JSON file to write")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    result = measure()
    print(render(result))
    if args.record:
        Path(args.record).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
