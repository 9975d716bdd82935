"""loopos bench scaling: threads by turns, lengths at a fixed number of tokens, sizes."""

from __future__ import annotations

import json

import pytest

from loopos.bench import scaling, suites
from loopos.bench.settings import SETTINGS, step_flops

LONG_SERIES = pytest.mark.unsanitized("measures a dozen models by the training steps of test_steps")


@LONG_SERIES
def test_a_run():
    result = suites.run("scaling", setting="tiny", peers="loopos", threads=3, rounds=1, steps=1)
    assert json.loads(json.dumps(result)) == result
    (threads,) = result["series"]["threads"]
    assert [(peer["peer"], peer["threads"]) for peer in threads["peers"]] == [("loopos", n) for n in (1, 2, 3)]
    assert [limits["threads"] for limits in threads["limits"]] == [1, 2, 3]
    assert [each["setting"]["tokens"] for each in result["series"]["length"]] == [16, 16]
    assert [each["setting"]["config"]["d_model"] for each in result["series"]["size"]] == [8, 16]
    assert result["absent"] == []


@LONG_SERIES
def test_absent_engines_are_named_once(without):
    without("torch")
    result = suites.run("scaling", setting="tiny", threads=1, rounds=1, steps=1)
    assert result["absent"] == [{"peer": "torch", "threads": 1, "reason": "torch is not installed"}]


@pytest.mark.parametrize(("most", "counts"), [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (8, [1, 2, 4, 8])])
def test_numbers_of_threads(most, counts):
    assert scaling.thread_counts(most) == counts


def test_only_attention_grows_with_the_length(monkeypatch):
    monkeypatch.undo()
    points = scaling.by_length(SETTINGS["baby"])
    assert [point.length for point in points] == [64, 128, 256, 512, 1024, 2048, 4096]
    flops = [step_flops(point) for point in points]
    assert {point.tokens for point in points} == {4096}
    assert len({each.linear for each in flops}) == 1
    for point, each in zip(points, flops, strict=True):
        assert each.attention * 65 == flops[0].attention * (point.length + 1)
    assert {point.config.d_model // point.config.n_head for point in scaling.by_size(SETTINGS["baby"])} == {64}
