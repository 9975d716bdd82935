"""The page and the picture."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser

from comparisons import finished, small_task

from loopos.compare import page
from loopos.compare.summary import summarise
from loopos.compare.trial import ENDED, Outcome, Trial


class Reader(HTMLParser):
    """Every tag that is opened is closed, in order."""

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def as_if_timed(summary):
    """The same with updates of 10 ms each."""

    def timed(outcome):
        points = [[step, step / 100, loss] for step, _, loss in outcome.curves.get("eval_loss", ())]
        return replace(outcome, seconds=outcome.steps / 100, curves=outcome.curves | {"eval_loss": points})

    return replace(summary, outcomes={trial: timed(outcome) for trial, outcome in summary.outcomes.items()})


def test_the_page_has_all_and_needs_nothing(done):
    comparison, _, summary = done
    text = (comparison.folder / page.PAGE).read_text()
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    assert "<h1>small &amp; quick</h1>" in text
    for outside in ("http://", "https://", "<script", "<link", "src="):
        assert outside not in text
    for row in summary.rows:
        assert row.verdict.says.split(":")[0] in text
    assert summary.same.seeds[1337]["start"] in text
    assert summary.same.seeds[1338]["batches"] in text
    # Held-out by step and by second, training loss, gradient norm. Of a run of milliseconds the clock tells nothing.
    assert page.text(as_if_timed(summary), "small").count("<svg") == 4
    assert "blocks.0.attn.qkv_proj.y[" in text
    for trial in summary.outcomes:
        assert trial.name in text


def test_the_picture_is_a_file_of_its_own(done):
    comparison, _, _ = done
    root = ET.fromstring((comparison.folder / page.PICTURE).read_text())
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    held_out, training = root.findall("{http://www.w3.org/2000/svg}svg")
    for chart in (held_out, training):
        assert len(chart.findall("{http://www.w3.org/2000/svg}polyline")) == 1  # of sgd one point is left, in training
        assert len(chart.findall("{http://www.w3.org/2000/svg}polygon")) >= 1  # the range of two seeds
    assert "sgd" in "".join(training.itertext())
    assert "sgd" not in "".join(held_out.itertext())


def test_where_all_went_bad_there_is_a_page_all_the_same():
    found = summarise(
        small_task("x"), {"sgd": (1.0, "given")}, {Trial("sgd", 1.0, 1337, 9): Outcome(ENDED, 0)}, page.Path("no")
    )
    assert "ended at step 1" in page.text(found, "t")
    ET.fromstring(page.drawing(found))


def test_sweeps_are_drawn_by_rate():
    trials = {Trial("sgd", rate, 1337, 5, sweep=True): finished(loss) for rate, loss in ((0.1, 3.0), (1.0, 2.0))}
    trials[Trial("sgd", 1.0, 1337, 10)] = finished(1.5)
    summary = summarise(small_task("x"), {"sgd": (1.0, "sweep of 2, the best at its edge")}, trials, page.Path("no"))
    text = page.text(summary, "t")
    assert "the sweep: held-out loss after 5 updates by learning rate" in text
    assert "<li>sgd: 1, sweep of 2, the best at its edge</li>" in text
    assert ">rate</text>" in text
