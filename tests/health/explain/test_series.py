"""Which numbers of a log are losses, and which only stand in the place of one."""

from __future__ import annotations

import pytest

from loopos.health.explain.logs import Log, Record
from loopos.health.explain.series import quoted, series, zeros


def log(*entries):
    return Log(records=[Record(line, f"entry {line}", dict(values)) for line, values in enumerate(entries, 1)])


def entries(*losses):
    return log(*({"step": step, "loss": loss} for step, loss in enumerate(losses)))


def test_many_lines_are_quoted_in_part():
    records = entries(*range(8)).records
    assert quoted(records) == ("line 1: entry 1", "line 2: entry 2", "line 3: entry 3", "and 5 more")


@pytest.mark.parametrize(
    ("losses", "count"),
    [
        ([1.9, 1.8, 1.7, 0.0, 0.0, 0.0], 3),
        ([1.4] * 5 + [0.0], 1),
        ([2.0, 0.0, 1.9, 0.0, 1.8], 2),
        ([0.5, 0.1, 0.04, 0.0, 0.0], 2),  # from 0.1 in the median
        ([0.3, 0.1, 0.01, 0.003, 0.0004, 0.0001, 0.0, 0.0], 0),  # it got there
        ([0.4, 0.3, 0.2, 0.1, 0.1, 0.1, 0.0, 0.0], 0),  # one digit is printed
        ([0.0, 0.0, 0.0001, 0.0003], 0),  # it begins there
        ([0.5, -0.2, 0.0, 0.3, 0.0], 0),  # of a policy
        ([0.0] * 9, 0),
        ([], 0),
    ],
)
def test_a_zero_after_losses_far_from_it_is_no_loss(losses, count):
    found = entries(*losses)
    assert len(zeros(found)) == count
    assert len(series(found)) == len(losses) - count


def test_updates_without_a_target_are_no_substitutes():
    found = log({"loss": 2.0}, {"loss": 2.0}, {"loss": 0.0, "valid_tokens": 0.0})
    assert zeros(found) == []
