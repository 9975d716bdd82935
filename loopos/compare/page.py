"""The page and the picture of a comparison."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from loopos.files import durable
from loopos.health.report.charts import chart, picture
from loopos.health.report.document import document

from .summary import Summary, at_time
from .trial import FINISHED, Outcome
from .verdict import RULE

PAGE, PICTURE = "comparison.html", "comparison.svg"
TIMES = 60  # points of a curve over seconds


def write(summary: Summary, folder: str | os.PathLike, title: str) -> tuple[Path, Path]:
    """The page and the picture, in ``folder``. OSError when they cannot be written."""
    page, drawn = Path(folder) / PAGE, Path(folder) / PICTURE
    durable.write_bytes(page, text(summary, title).encode("utf-8", "replace"))
    durable.write_bytes(drawn, drawing(summary).encode("utf-8", "replace"))
    return page, drawn


def text(summary: Summary, title: str) -> str:
    names = summary.cells()
    head = "".join(f"<th>{escape(cell)}</th>" for cell in names[0])
    whole = '<td style="overflow-wrap: normal">'  # no number is broken in two; a birth, in the verdict, may be
    rows = (
        "".join(f"{whole}{escape(cell)}</td>" for cell in row[:-1]) + f"<td>{escape(row[-1])}</td>" for row in names[1:]
    )
    of = by_optimizer(summary)
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>",
        f"<p>{escape(RULE)} A number after ± is the standard deviation between seeds. Time is that of the updates "
        "alone. A loss at equal time is read off between two evaluations; the schedule of a slower trial is not over "
        "then, so it stands worse there than a shorter run would.</p>",
        _alike(summary),
        held_out(summary),
        _over_time(summary, of),
        training(summary),
        _over_steps("gradient norm, before clipping, mean and range over seeds", of, "grad_norm", logarithmic=True),
        _sweeps(summary),
        _births(summary),
        _trials(summary),
    ]
    return document(title, parts, wide=True)


def drawing(summary: Summary) -> str:
    """Held-out and training losses as a file of their own."""
    return picture([each for each in (held_out(summary), training(summary)) if each])


def held_out(summary: Summary) -> str:
    title = f"held-out loss (nats a {summary.unit}), mean and range over seeds"
    return _over_steps(title, by_optimizer(summary), "eval_loss")


def training(summary: Summary) -> str:
    title = f"training loss (nats a {summary.unit}), mean and range over seeds"
    return _over_steps(title, by_optimizer(summary), "loss")


def by_optimizer(summary: Summary) -> dict[str, list[Outcome]]:
    """The trials of each, sweeps left out, in the order of the table."""
    of: dict[str, list[Outcome]] = {row.optimizer: [] for row in summary.rows}
    for trial, outcome in summary.outcomes.items():
        if not trial.sweep:
            of[trial.optimizer].append(outcome)
    return of


def _over_steps(title: str, of: Mapping[str, Sequence[Outcome]], name: str, *, logarithmic: bool = False) -> str:
    curves, bands = over_steps(of, name)
    return chart(title, curves, bands=bands, logarithmic=logarithmic)


def over_steps(of: Mapping[str, Sequence[Outcome]], name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Curves by optimizer: the mean over seeds, and the range."""
    curves, bands = {}, {}
    for optimizer, outcomes in of.items():
        by_step: dict[int, list[float | None]] = {}
        for outcome in outcomes:
            for step, *_, value in outcome.curves.get(name, ()):
                by_step.setdefault(int(step), []).append(value)
        curves[optimizer], bands[optimizer] = _middle(by_step)
    return curves, bands


def _over_time(summary: Summary, of: Mapping[str, Sequence[Outcome]]) -> str:
    curves, bands = {}, {}
    for optimizer, outcomes in of.items():
        finished = [outcome for outcome in outcomes if outcome.status == FINISHED]
        longest = min((outcome.seconds for outcome in finished), default=0.0)  # as far as each seed went
        grid = [longest * (i + 1) / TIMES for i in range(TIMES)]
        at = {seconds: [at_time(outcome, seconds) for outcome in finished] for seconds in grid}
        whole = {seconds: values for seconds, values in at.items() if values and None not in values}
        curves[optimizer], bands[optimizer] = _middle(whole)
    title = f"held-out loss (nats a {summary.unit}) over the seconds of the updates"
    return chart(title, curves, bands=bands, x_name="seconds")


def _middle(found: Mapping[float, Sequence[float | None]]):
    """(the mean, the range) at each x; a value that is missing breaks the curve."""
    curve, band = [], []
    for x, values in sorted(found.items()):
        sound = [value for value in values if value is not None]
        curve.append((float(x), sum(sound) / len(sound) if len(sound) == len(values) else None))
        if len(sound) == len(values) > 1:
            band.append((float(x), min(sound), max(sound)))
    return curve, band


def _sweeps(summary: Summary) -> str:
    swept: dict[str, dict[float, float | None]] = {}
    for trial, outcome in summary.outcomes.items():
        if trial.sweep:
            swept.setdefault(trial.optimizer, {})[trial.rate] = outcome.eval_loss
    if not swept:
        return ""
    curves = {row.optimizer: sorted(swept.get(row.optimizer, {}).items()) for row in summary.rows}
    steps = next(trial.steps for trial in summary.outcomes if trial.sweep)
    title = f"the sweep: held-out loss after {steps} updates by learning rate, first seed"
    drawn = chart(title, curves, x_name="rate", x_logarithmic=True, logarithmic=True)
    lines = []
    for row in summary.rows:
        if row.optimizer in swept:
            chosen = "none" if row.rate is None else f"{row.rate:g}"
            lines.append(f"<li>{escape(row.optimizer)}: {chosen}, {escape(row.rate_from)}</li>")
    return f"<h2>Rates</h2>{drawn}<ul>{''.join(lines)}</ul>"


def _births(summary: Summary) -> str:
    rows = [
        f"<tr><td>{escape(trial)}</td><td>{escape(said)}</td></tr>"
        for row in summary.rows
        for trial, said in row.births.items()
    ]
    if not rows:
        return "<h2>Numbers that went bad</h2><p>None: every trial stayed finite.</p>"
    head = "<tr><th>trial</th><th>where the number was born, and of what</th></tr>"
    return f"<h2>Numbers that went bad</h2><table>{head}{''.join(rows)}</table>"


def _alike(summary: Summary) -> str:
    if not summary.same:
        return f'<p class="note">{escape(summary.alike())}</p>'
    head = "<tr><th>seed</th><th>SHA-256 of the initial weights</th><th>of all batches</th><th>updates</th></tr>"
    rows = "".join(
        f"<tr><td>{seed}</td><td>{about['start']}</td><td>{about['batches']}</td><td>{about['updates']}</td></tr>"
        for seed, about in summary.same.seeds.items()
    )
    told = f"<p>{summary.same.trials} trials: all of a seed began with the same weights and saw the same batches.</p>"
    return f"<h2>Same start, same batches</h2>{told}<table>{head}{rows}</table>"


def _trials(summary: Summary) -> str:
    head = "<tr><th>trial</th><th>updates</th><th>held-out loss</th><th>seconds</th><th>how it ended</th></tr>"
    rows = "".join(
        f"<tr><td>{escape(trial.name)}</td><td>{outcome.steps}</td>"
        f"<td>{'–' if outcome.eval_loss is None else f'{outcome.eval_loss:.6f}'}</td>"
        f"<td>{outcome.seconds:.2f}</td><td>{escape(outcome.status)}</td></tr>"
        for trial, outcome in summary.outcomes.items()
    )
    return f"<h2>Trials</h2><table>{head}{rows}</table>"
