"""Numbers of a run are counted as what they are: finite, NaN, infinite, zero."""

from __future__ import annotations

import json
import math

from loopos.health.report.counters import count, counters, table
from loopos.health.runs import read_run


def test_each_number_is_counted_once():
    found = count([(1, 2.0), (2, math.nan), (3, 0.0), (4, -math.inf), (5, None), (6, 4.0)])
    assert (found.total, found.finite, found.nan, found.infinite, found.unknown, found.zero) == (6, 3, 1, 1, 1, 1)
    assert (found.least, found.largest, found.mean) == (0.0, 4.0, 2.0)
    assert (found.first_bad, found.not_finite) == (2, 3)


def test_the_counters_of_the_document():
    """Two entries: norms 1.5671 to 1.6627, mean 1.6149; losses 2.1651 to 2.2549, mean 2.2100."""
    for values, mean in (((1.5671, 1.6627), 1.6149), ((2.2549, 2.1651), 2.2100)):
        found = count(enumerate(values))
        assert (found.total, found.finite, found.zero, found.first_bad) == (2, 2, 0, None)
        assert round(found.mean, 4) == mean
        assert (found.least, found.largest) == (min(values), max(values))


def test_of_none_and_of_huge_ones():
    assert count([]).mean is None
    assert count([(1, math.nan)]).largest is None
    assert count([(1, 1.5e308), (2, 1.5e308)]).mean == 1.5e308  # their sum is infinite


def write(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def test_bits_tell_which_number_a_null_was(tmp_path):
    log = tmp_path / "metrics.jsonl"
    write(log, [{"step": 1, "loss": 2.0, "grad_norm": 1.0}, {"step": 3, "loss": None, "grad_norm": None}])
    found = counters(read_run(tmp_path))
    assert (found["loss"].total, found["loss"].unknown, found["loss"].first_bad) == (2, 1, 3)
    hexes = [2.0, 0.0, math.nan, math.inf]
    lines = [{"step": i, "loss_hex": x.hex(), "grad_norm_hex": x.hex()} for i, x in enumerate(hexes, 1)]
    write(tmp_path / "bits.jsonl", [*lines, {"step": 5, "loss_hex": "no number"}])
    found = counters(read_run(tmp_path))["loss"]
    assert (found.total, found.finite, found.zero, found.nan, found.infinite, found.unknown) == (5, 2, 1, 1, 1, 1)


def test_a_step_without_targets_has_no_loss(tmp_path):
    records = [
        {"step": 1, "loss": 2.0, "valid_tokens": 4},
        {"step": 2, "loss": 0.0, "grad_norm": 0.0, "valid_tokens": 0},
    ]
    write(tmp_path / "metrics.jsonl", [*records, {"step": 3, "eval_loss": 1.5}])
    (loss, held_out) = table(counters(read_run(tmp_path)))
    assert (loss["name"], loss["total"], loss["zero"]) == ("loss", 1, 0)
    assert (held_out["name"], held_out["mean"]) == ("eval_loss", 1.5)
