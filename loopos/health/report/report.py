"""loopos report: one self-contained HTML page about a run, from what its folder holds."""

from __future__ import annotations

import base64
import json
import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from loopos.checks import finite_or_none
from loopos.errors import CheckpointError, NonFiniteError
from loopos.files import durable
from loopos.health.explain.explain import explain_run
from loopos.health.explain.run_evidence import births, endings
from loopos.health.runs import Run, checkpoints, count_lines, read_run
from loopos.monitor.verdict import of_history
from loopos.run.metrics import AUDIT, BITS, DOCTOR
from loopos.scoring.captions import SCORES
from loopos.vision.sheet import PNG, SHEET

from .charts import chart, heat_map
from .compare import RunComparison, compare
from .counters import counters, table
from .document import document
from .scales import scale_charts

REPORT = "report.html"
MAX_EVENTS = 200
MAX_PICTURE, MAX_SCORES = 1 << 24, 1 << 20  # bytes
_CURVES = ("loss", "eval_loss", "grad_norm", "learning_rate", "tokens_per_second")


@dataclass(frozen=True)
class Report:
    """path: of the page; counters: a row each of loss, gradient norm and held-out loss; audit: the label audit of the
    run's examples, None where it has none; comparison: with another run, None where none was asked for."""

    path: Path
    counters: list[dict[str, Any]]
    audit: dict[str, Any] | None
    comparison: RunComparison | None


def write_report(
    run: str | os.PathLike, output: str | os.PathLike | None = None, other: str | os.PathLike | None = None
) -> Report:
    """Write the page (``report.html`` in the run's folder unless ``output`` says otherwise).

    other: a run to compare it with. OSError when a run cannot be read or the page not written, CheckpointError when a
    log is no regular file."""
    found = read_run(run)
    path = found.folder / REPORT if output is None else Path(output)
    compared = None if other is None else compare(found, read_run(other))
    text = page(found, None if compared is None else (Path(other), compared))
    durable.write_bytes(path, text.encode("utf-8", "replace"))
    return Report(path, table(counters(found)), _read_audit(found)[0], compared)


def page(run: Run, other: tuple[Path, RunComparison] | None = None) -> str:
    """The whole page; other: what it is compared with. Everything that comes from a file is escaped."""
    records = run.records
    events = [*_events(records), *_endings(run)]
    marks = [step for step, _ in events][:MAX_EVENTS]
    curves = {name: _curve(records, name) for name in _CURVES}
    scales = scale_charts(records, _curve)
    parts = [
        f"<h1>{escape(str(run.folder))}</h1>",
        _summary(run),
        *(f'<p class="note">metrics.jsonl: {escape(text)}</p>' for text in run.damaged),
        _verdict(records),
        _pictures(run),
        _compared(other),
        _counted(run),
        _audit(run),
        chart(
            "loss" if scales else "loss (nats a token)",
            {"train": curves["loss"], "eval": curves["eval_loss"]},
            marks=marks,
        ),
        chart("gradient norm, before clipping", {"gradient norm": curves["grad_norm"]}, logarithmic=True, marks=marks),
        chart("learning rate", {"learning rate": curves["learning_rate"]}, marks=marks),
        chart("tokens per second", {"tokens per second": curves["tokens_per_second"]}),
        *scales,
        _ratios(records),
        _event_table(events),
        _bundles(run),
        _doctor(run),
        _explained(run),
    ]
    return document(f"{run.folder.name}: LoopOS report", parts)


def _pictures(run: Run) -> str:
    """What ``loopos caption`` left: its scores, and pictures beside their captions, inside the page."""
    path, scores = run.folder / SHEET, _scores(run)
    head = "<h2>Captions</h2>" + (f"<p>{escape(scores)}</p>" if scores else "")
    if not path.exists():
        return head if scores else ""
    try:
        data = durable.read_bytes(path, limit=MAX_PICTURE).tobytes()
    except (OSError, CheckpointError) as error:
        return f'{head}<p class="note">{escape(str(error))}</p>'
    if not data.startswith(PNG):
        return f'{head}<p class="note">{escape(str(path))}: expected a PNG</p>'
    source = base64.b64encode(data).decode("ascii")
    return f'{head}<img alt="pictures beside their captions" src="data:image/png;base64,{source}"/>'


def _scores(run: Run) -> str:
    """What caption_scores.json says of the captions, in a sentence; "" where there is none."""
    try:
        told = durable.load_json(run.folder / SCORES, MAX_SCORES)
        return str(told["says"])
    except (OSError, CheckpointError, LookupError, TypeError):
        return ""


def _compared(other: tuple[Path, RunComparison] | None) -> str:
    if other is None:
        return ""
    return f"<h2>Compared with {escape(str(other[0]))} (B)</h2><p>{escape(str(other[1]))}</p>"


def _counted(run: Run) -> str:
    rows = table(counters(run))
    if not rows:
        return ""
    head = "".join(f"<th>{escape(name.replace('_', ' '))}</th>" for name in rows[0])
    cells = ("".join(f"<td>{escape(_cell(value))}</td>" for value in row.values()) for row in rows)
    return f"<h2>Numbers</h2><table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in cells)}</table>"


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _read_audit(run: Run) -> tuple[dict[str, Any] | None, str]:
    """(the label audit, what is wrong with its file)."""
    path = run.folder / AUDIT
    if not path.exists():
        return None, ""
    try:
        found = durable.load_json(path, limit=1 << 22)
    except (OSError, CheckpointError) as error:
        return None, str(error)
    return (found, "") if isinstance(found, dict) else (None, f"{AUDIT}: expected an object")


def _audit(run: Run) -> str:
    found, problem = _read_audit(run)
    if problem:
        return f'<h2>Label audit</h2><p class="note">{escape(problem)}</p>'
    if found is None:
        return ""
    rows = "".join(
        f"<tr><td>{escape(str(name).replace('_', ' '))}</td><td>{escape(_text(value)[:2000])}</td></tr>"
        for name, value in found.items()
    )
    return f"<h2>Label audit</h2><table>{rows}</table>"


def _curve(records: list[dict[str, Any]], name: str) -> list[tuple[float, float | None]]:
    return [(float(record["step"]), finite_or_none(record[name])) for record in _dated(records) if name in record]


def _dated(records: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    return (record for record in records if abs(record["step"]) < 10**15)


def _summary(run: Run) -> str:
    if not run.records:
        return '<p class="note">There is no sound line in metrics.jsonl: nothing to draw.</p>'
    last = run.records[-1]
    rows = {"steps": f"{run.records[0]['step']} to {last['step']}, {len(run.records)} lines"}
    for name in (*_CURVES, "epoch"):
        given = [record[name] for record in run.records if name in record]
        if given:
            value = finite_or_none(given[-1])
            rows[f"{name}, last"] = "not finite" if value is None else f"{value:.6g}"
    rows["updates"] = _counts(run.records)
    lines = count_lines(run.folder / BITS)
    rows["bits of every step"] = f"none: there is no {BITS}" if lines is None else f"{BITS}, {lines} lines"
    told = [r for r in run.records if isinstance(r.get("products"), str)]
    if told:
        computed = (f"{r.get('precision')}, computed with {r['products']} from step {r['step']}" for r in told)
        rows["precision of products"] = "; ".join(computed)
    saved = sorted(checkpoints(run.folder))
    rows["checkpoints"] = ", ".join(map(str, saved[-8:])) if saved else "none in this folder"
    lines = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(str(value)[:200])}</td></tr>" for name, value in rows.items()
    )
    return f"<table>{lines}</table>"


def _counts(records: list[dict[str, Any]]) -> str:
    """What became of the updates, as the last line that counts them says."""
    names = ("attempted", "applied", "skipped", "clipped")
    for record in reversed(records):
        counts = [finite_or_none(record.get(name)) for name in names]
        if None not in counts:
            return ", ".join(f"{count:g} {name}" for count, name in zip(counts, names, strict=True))
    return "not counted in this log"


def _verdict(records: list[dict[str, Any]]) -> str:
    if not any("loss" in record for record in records):
        return ""
    return f"<h2>Verdict</h2><p>{escape(str(of_history(records)))}</p>"


def _ratios(records: list[dict[str, Any]]) -> str:
    rows: dict[str, list[tuple[float, float | None]]] = {}
    for record in _dated(records):
        ratios = record.get("update_ratio")
        for name, value in ratios.items() if isinstance(ratios, Mapping) else ():
            rows.setdefault(str(name), []).append((float(record["step"]), finite_or_none(value)))
    if not rows:
        return ""
    title = "update to weight ratio, by tensor (blue: 1e-6 and less, pale: 1e-3, red: near 1; grey: 0)"
    return heat_map(title, dict(list(rows.items())[:200]), 1e-6, 1.0)


def _events(records: list[dict[str, Any]]) -> Iterator[tuple[int, str]]:
    """(step, what happened), in the order of the log."""
    refused, before = 0, None
    for record in records:
        step = record["step"]
        if before is not None and step <= before:
            yield step, f"the log goes back from step {before} to {step}"
        before = step
        count = finite_or_none(record.get("nonfinite"))
        if count is not None and count > refused:
            yield step, f"{count - refused:g} update(s) refused: a number was not finite ({count:g} in all)"
        refused = max(refused, count or 0)
        bad = [
            name
            for name in ("loss", "grad_norm", "eval_loss")
            if name in record and finite_or_none(record[name]) is None
        ]
        if bad:
            yield step, f"not finite: {', '.join(bad)}"
        if record.get("valid_tokens") == 0:
            yield step, "no target was left to score; nothing was updated"
        for name in ("event", "events", "rewind", "birth", "findings"):
            if record.get(name):
                for each in record[name] if isinstance(record[name], list) else [record[name]]:
                    yield _described(step, name, each)


def _endings(run: Run) -> Iterator[tuple[int, str]]:
    """The updates that ended the run and are in no line of its log."""
    logged = births(run)
    for _, step, birth, past, _ in endings(run):
        if step is not None and birth is not None and step not in logged:
            yield step, f"{'an earlier attempt' if past else 'the run'} ended: {birth}"


def _described(step: int, name: str, event: Any) -> tuple[int, str]:
    """(step, sentence) of what a line of the log has beside its numbers. A finding knows its own step: it may be
    earlier than that of its line."""
    if isinstance(event, dict) and isinstance(event.get("sentence"), str):
        own = event.get("step")
        return own if type(own) is int and abs(own) <= abs(step) else step, f"implausible: {event['sentence']}"
    return step, f"{name}: {event if isinstance(event, str) else json.dumps(event)}"


def _event_table(events: list[tuple[int, str]]) -> str:
    if not events:
        return "<h2>Events</h2><p>None: every number in the log is finite and no update was refused.</p>"
    rows = "".join(f"<tr><td>{step}</td><td>{escape(text[:500])}</td></tr>" for step, text in events[:MAX_EVENTS])
    more = f"<p>and {len(events) - MAX_EVENTS} more</p>" if len(events) > MAX_EVENTS else ""
    return f"<h2>Events</h2><table><tr><th>step</th><th>what</th></tr>{rows}</table>{more}"


def _bundles(run: Run) -> str:
    """The updates that ended the run, each with the birth of its number."""
    rows = []
    for path, step, birth, past, problem in list(endings(run))[-MAX_EVENTS:]:
        healthy = problem or "every number of it was finite"
        said = str(NonFiniteError(birth)) if birth else healthy  # where, why, what to do
        said += ". The log has since gone past this step" if past else ""
        step = "" if step is None else step
        command = f"loopos replay {shlex.quote(str(path))}"
        rows.append(f"<tr><td>{step}</td><td>{escape(said)}</td><td><code>{escape(command)}</code></td></tr>")
    if not rows:
        return ""
    head = "<tr><th>step</th><th>birth</th><th>to repeat it</th></tr>"
    return f"<h2>Bundles</h2><table>{head}{''.join(rows)}</table>"


def _doctor(run: Run) -> str:
    """What ``loopos train`` or ``loopos doctor --json`` left: doctor.json (an object with a list of lines, or any
    JSON), or a record that has one."""
    found: Any = next((record["doctor"] for record in run.records if record.get("doctor")), None)
    path = run.folder / DOCTOR
    if path.exists():
        try:
            found = durable.load_json(path, limit=1 << 22)
        except (OSError, CheckpointError) as error:
            return f'<h2>Doctor</h2><p class="note">{escape(str(error))}</p>'
    if found is None:
        return ""
    lines = (
        next((value for value in found.values() if isinstance(value, list)), None) if isinstance(found, dict) else found
    )
    if isinstance(lines, list) and lines and all(isinstance(line, dict) for line in lines):
        names = list(dict.fromkeys(str(name) for line in lines for name in line))[:8]
        head = "".join(f"<th>{escape(name)}</th>" for name in names)
        cells = ("".join(f"<td>{escape(_text(line.get(name)))}</td>" for name in names) for line in lines[:MAX_EVENTS])
        summary = (
            f"<p>{escape(_text(found['summary'])[:500])}</p>" if isinstance(found, dict) and "summary" in found else ""
        )
        return f"<h2>Doctor</h2>{summary}<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in cells)}</table>"
    return f"<h2>Doctor</h2><pre>{escape(_text(found)[:20_000])}</pre>"


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, indent=1 if isinstance(value, dict) else None)


def _explained(run: Run) -> str:
    found = explain_run(run)
    if not found.findings:
        return ""
    lines = "".join(f"<li><pre>{escape(str(finding))}</pre></li>" for finding in found.findings)
    return f"<h2>Explanation</h2><ol>{lines}</ol>"
