"""The PNG of a comparison."""

from __future__ import annotations

import importlib.util

import pytest
from comparisons import finished, small_task

from loopos.compare import plot
from loopos.compare.summary import summarise
from loopos.compare.trial import ENDED, Outcome, Trial


def summary_of(tmp_path):
    trials = {Trial("adamw", 0.01, seed, 10): finished(1.5) for seed in (1, 2)}
    trials |= {Trial("sgd", 1e30, seed, 10): Outcome(ENDED, 0, said="step 1") for seed in (1, 2)}
    return summarise(small_task(tmp_path), {"adamw": (0.01, "given"), "sgd": (1e30, "given")}, trials, tmp_path)


def test_the_picture_has_a_curve_for_each_and_says_who_ended(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    drawn = []
    monkeypatch.setattr(plot, "_draw", lambda axes, *rest, draw=plot._draw: (draw(axes, *rest), drawn.append(axes)))
    path = plot.write(summary_of(tmp_path), tmp_path, "small")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert len(drawn) == 2
    for axes in drawn:
        assert [line.get_label() for line in axes.lines] == ["adamw", "sgd (ended)"]
    held_out = drawn[0].lines[0]
    points = finished(1.5).curves["eval_loss"]
    assert [list(pair) for pair in zip(*held_out.get_data(), strict=True)] == [[x, y] for x, _, y in points]
    assert len(drawn[0].lines[1].get_xdata()) == 0


def test_without_matplotlib_there_is_none_and_no_old_one(tmp_path, monkeypatch):
    (tmp_path / plot.PLOT).write_bytes(b"old")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert plot.write(summary_of(tmp_path), tmp_path, "small") is None
    assert not (tmp_path / plot.PLOT).exists()
