"""loopos report: a whole, well-formed, self-contained page, whatever the folder holds."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest

import loopos
from loopos.cli import main
from loopos.health.report.report import page, write_report
from loopos.health.runs import Run, read_run

VOID = {"meta", "line", "circle", "rect", "polyline", "img"}  # the SVG ones are written closed: <line .../>


class Page(HTMLParser):
    """The tree of a page: every tag closed in order; text by tag; attributes of each tag."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.text = [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        assert tag in VOID
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def write(folder, records, tail=""):
    folder.mkdir(exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records) + tail)
    return folder


def entry(t, **changes):
    return {
        "step": t,
        "loss": 1.5 + 2 * math.exp(-t / 40) + t % 3 / 50,
        "grad_norm": 1 + t % 5 / 5,
        "learning_rate": 1e-3,
        "tokens_per_second": 2e4,
        "valid_tokens": 64,
        "nonfinite": 0,
    } | changes


def html_of(folder):
    html = page(read_run(folder))
    return html, Page(html)


def test_a_real_run_makes_a_whole_page(tmp_path):
    config = loopos.ModelConfig(vocab_size=13, context_length=8, n_layer=1, n_head=2, d_model=8)
    ids = np.arange(400) * 7 % 13
    result = loopos.train(
        config, ids, eval_data=ids, eval_every=10, max_steps=30, log_every=1, output_dir=tmp_path, progress=False
    )
    path = write_report(tmp_path).path
    html, parsed = path.read_text(), Page(path.read_text())
    assert path == tmp_path / "report.html"
    titles = [attributes["aria-label"] for tag, attributes in parsed.tags if tag == "svg"]
    assert len(titles) == 5
    assert titles[-1].startswith("update to weight ratio")
    clipped = result.history[-1]["clipped"]
    assert f"30 attempted, 30 applied, 0 skipped, {clipped} clipped" in html
    assert "bits.jsonl, 30 lines" in html
    assert "learning: the loss falls" in html
    assert "every number in the log is finite" in html
    assert not re.search(r"https?:|<script|<link|<img|@import|url\(", html)  # nothing is fetched, nothing runs


class Poison:
    """Weights that are NaN after a step."""

    def on_step_end(self, info):
        if info["step"] == 60:
            next(iter(info["model"].parameters().values()))[...] = math.nan


class Spiked:
    """A token that is soon learned, and another in one step."""

    def batch(self, step, micro):
        return np.full((2, 8), 3), np.full((2, 8), 9 if step == 49 else 3)


def test_findings_bundles_and_the_doctor_of_a_run_that_failed(tmp_path):
    config = loopos.ModelConfig(vocab_size=32, context_length=8, n_layer=1, n_head=2, d_model=8)
    run = tmp_path / "run"
    with pytest.raises(loopos.NonFiniteError) as caught:
        loopos.train(
            config,
            Spiked(),
            max_steps=99,
            learning_rate=1e-2,
            lr_schedule="constant",
            output_dir=run,
            callbacks=[Poison()],
            progress=False,
        )
    checks = loopos.doctor(config, np.arange(400) % 32, quick=True)
    (run / "doctor.json").write_text(json.dumps(checks.to_dict()))
    html, parsed = html_of(run)
    text = " ".join(parsed.text)
    assert str(caught.value.birth) in text
    assert f"loopos replay {caught.value.bundle}" in text
    assert "implausible: loss = " in text
    rows = re.findall(r"<tr><td>(\d+)</td><td>implausible: ", html)
    assert rows
    assert set(rows) == {"50"}  # its own step
    assert checks.summary in text
    assert all(check.measured in text for check in checks.checks)
    (run / "bundles" / "step-00000070.safetensors").write_bytes(b"\0\1damag")
    assert "7 bytes are too few" in html_of(run)[0]


def test_a_count_of_skipped_updates_is_no_event(tmp_path):
    counts = {"attempted": 9, "applied": 6, "skipped": 3, "clipped": 2}
    _, parsed = html_of(write(tmp_path, [entry(t, **counts) for t in range(1, 10)]))
    text = " ".join(parsed.text)
    assert "9 attempted, 6 applied, 3 skipped, 2 clipped" in text
    assert "None: every number in the log is finite" in text


@pytest.mark.parametrize(
    "findings",
    [3, "x", [1], [{}], [{"sentence": 1}], [{"sentence": "<b>", "step": 10**9}], [[["x"]]], {"sentence": "s"}],
)
def test_odd_findings_are_no_crash(tmp_path, findings):
    html, _ = html_of(write(tmp_path, [entry(t) for t in range(1, 12)] + [entry(12, findings=findings)]))
    assert "<tr><td>12</td>" in html
    assert "<b>" not in html


def test_a_dark_page_has_light_curves(tmp_path):
    style = page(Run(tmp_path, [entry(t) for t in (1, 2)], [])).partition("<style>")[2].partition("</style>")[0]
    light, _, dark = style.partition("@media (prefers-color-scheme: dark)")
    assert "color-scheme: light dark" in light
    assert all(f".{kind}{i} {{" in re.sub(r"\s+", " ", dark) for kind in "cf" for i in range(4))


def test_events_ratios_and_doctor_are_shown_and_escaped(tmp_path):
    evil = "<script>alert(1)</script>"
    ratios = {evil: 1e-3, "blocks.0.weight": 1e-9}
    records = [entry(t, update_ratio=ratios) for t in range(1, 30)]
    records[9] = entry(10, loss=None, grad_norm=None, nonfinite=1)
    records[14] = entry(15, valid_tokens=0, loss=0.0)
    records[19] = entry(20, event=evil, events=[{"rewind": 10}])
    records.append(entry(25, nonfinite=1))
    folder = write(tmp_path / "a&b<c>", records)
    (folder / "doctor.json").write_text(json.dumps({"lines": [{"check": evil, "verdict": "fail"}]}))
    html, parsed = html_of(folder)
    text = " ".join(parsed.text)
    assert "<script" not in html
    assert text.count(evil) >= 3
    for said in (
        "1 update(s) refused",
        "not finite: loss, grad_norm",
        "no target was left",
        '{"rewind": 10}',
        "goes back from step 29 to 25",
    ):
        assert said in text
    assert "a&b<c>" in text
    assert sum(tag == "svg" for tag, _ in parsed.tags) == 5


def test_damaged_lines_are_named_and_the_rest_is_drawn(tmp_path):
    folder = write(tmp_path, [entry(t) for t in range(1, 20)], 'no json\n[1]\n{"step": true}\n\x00\n{"step": 20, "lo')
    _, parsed = html_of(folder)
    text = " ".join(parsed.text)
    for line in (20, 21, 22, 23):
        assert f"line {line}: " in text
    assert "line 24: it ends in the middle" in text
    assert "learning" in text


@pytest.mark.parametrize(
    "change",
    [
        {"loss": "2.0"},
        {"loss": [1], "update_ratio": 3},
        {"update_ratio": {"a": "b", "c": None, "d": -1.0}},
        {"learning_rate": None},
        {"step": 10**300},
        {"step": -5},
        {"loss": 1e308, "grad_norm": -1e308},
        {"loss": -1e308},
        {"nonfinite": "x", "events": 3, "valid_tokens": {}},
        {"doctor": {"a": [1, 2]}},
        {"loss": 10**400},
    ],
)
def test_odd_values_are_no_crash(tmp_path, change):
    html_of(write(tmp_path, [entry(t) for t in range(1, 12)] + [entry(12, **change)]))


@pytest.mark.parametrize("content", ["", "\n", '{"step": 1}\n', '{"step": 1, "loss": null}\n'])
def test_little_or_nothing_is_a_page_too(tmp_path, content):
    (tmp_path / "metrics.jsonl").write_text(content)
    html_of(tmp_path)
    (tmp_path / "doctor.json").write_text("{damaged")
    assert "not valid JSON" in page(read_run(tmp_path))


def test_the_command(tmp_path, capsys):
    folder = write(tmp_path / "run", [entry(t) for t in range(1, 30)])
    assert main(["report", str(folder), "--output", str(tmp_path / "out.html")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "out.html")
    Page((tmp_path / "out.html").read_text())
    for bad in ([str(tmp_path / "gone")], [str(folder), "--output", str(tmp_path / "no" / "such" / "folder.html")]):
        assert main(["report", *bad]) == 2
        assert capsys.readouterr().err.startswith("loopos report: ")


def test_pictures_beside_their_captions_are_in_the_page(tmp_path):
    folder = write(tmp_path / "run", [entry(1)])
    assert "Captions" not in Page(page(read_run(folder))).text
    (folder / "captions.png").write_bytes(b"\x89PNG\r\n\x1a\n and more")
    tags = Page(page(read_run(folder))).tags
    (found,) = [attributes for tag, attributes in tags if tag == "img"]
    assert found["src"].startswith("data:image/png;base64,iVBORw0KGgo")
    (folder / "captions.png").write_bytes(b"<script>")
    text = page(read_run(folder))
    assert "expected a PNG" in text
    assert "<img" not in text
