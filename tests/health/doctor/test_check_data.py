"""The doctor and the data: each fault planted in batches is named, sound ones pass."""

from __future__ import annotations

import numpy as np
import pytest

import loopos
from loopos.health.doctor import check_data
from loopos.health.doctor.report import FAIL, OK, SKIPPED, WARN


@pytest.fixture
def stream():
    return np.random.default_rng(0).integers(0, 50, 400)


def rows(stream, shift):
    """Four rows of 16 ids, and targets ``shift`` further in the stream."""
    starts = 8 + np.arange(4)[:, None] * 20 + np.arange(16)
    return stream[starts], stream[starts + shift]


def test_the_next_id_is_the_right_target(stream):
    check = check_data.alignment([rows(stream, 1)])
    assert check.verdict == OK
    assert "the next id in 100.0% of 60 places" in check.measured


@pytest.mark.parametrize(
    ("shift", "verdict", "said"),
    [
        (0, FAIL, "the answer is in the question"),
        (2, FAIL, "shifted twice"),
        (3, FAIL, "shift targets by one"),
        (-1, WARN, "the wrong way round"),
    ],
)
def test_another_shift_is_named(stream, shift, verdict, said):
    check = check_data.alignment([rows(stream, shift)])
    assert check.verdict == verdict
    assert said in check.advice


def test_shuffled_labels_fit_no_shift(stream):
    ids, targets = rows(stream, 1)
    targets = np.random.default_rng(1).permutation(targets.reshape(-1)).reshape(targets.shape)
    check = check_data.alignment([(ids, targets)])
    assert check.verdict == WARN
    assert "shuffled labels" in check.advice


def test_some_wrong_labels_are_remarkable(stream):
    ids, targets = rows(stream, 1)
    targets[:, ::4] = (targets[:, ::4] + 1) % 50
    check = check_data.alignment([(ids, targets)])
    assert check.verdict == WARN
    assert "noise, or borders" in check.advice


def test_a_constant_stream_is_not_taken_for_a_copy():
    ids = np.full((2, 8), 5)
    assert check_data.alignment([(ids, ids)]).verdict == OK


def test_masked_targets_are_not_compared(stream):
    ids, targets = rows(stream, 1)
    targets[:, :12] = -100
    assert check_data.alignment([(ids, targets)]).verdict == OK
    targets[:, :15] = -100  # what is left has no next id in its row
    assert check_data.alignment([(ids, targets)]).verdict == SKIPPED
    assert check_data.alignment([(ids[:, :1], ids[:, 1:2])]).verdict == SKIPPED


def test_labels_are_counted(stream):
    ids, targets = rows(stream, 1)
    targets[0] = -100
    targets[1, :8] = -100
    check = check_data.labels([(ids, targets)])
    assert check.verdict == OK
    assert check.measured.startswith("40 of 64 targets count (37.5% masked), 1 of 4 rows have none")


def test_labels_that_teach_nothing(stream):
    ids, targets = rows(stream, 1)
    none = np.full_like(targets, -100)
    assert check_data.labels([(ids, none)]).verdict == FAIL
    assert "every target is -100" in check_data.labels([(ids, none)]).advice
    one_batch = check_data.labels([(ids, targets), (ids, none)])
    assert one_batch.verdict == WARN
    assert "1 of 2 batches teach nothing" in one_batch.advice
    hardly = none.copy()
    hardly[:, 3] = targets[:, 3]
    assert check_data.labels([(ids, hardly)]).verdict == WARN
    assert "bias" in check_data.labels([(ids, np.full_like(ids, 7))]).advice


def test_a_cursor_in_the_data_is_found(stream):
    first, second = rows(stream, 1), rows(stream[100:], 1)
    assert check_data.repeatable([first, second], first).verdict == OK
    check = check_data.repeatable([first, second], second)
    assert check.verdict == FAIL
    assert "keep no cursor" in check.advice


def test_one_batch_for_ever_is_found(stream):
    pair = rows(stream, 1)
    assert check_data.repeatable([pair] * 3, pair).verdict == WARN
    assert check_data.repeatable([pair], pair).verdict == OK  # there is but one


class Cursor:
    """Data that do not depend on their arguments."""

    def __init__(self, stream):
        self.stream, self.at = stream, 0

    def batch(self, step, micro):
        self.at += 1
        return rows(np.roll(self.stream, self.at), 2)


class Leaky:
    """Every target stands in the input already, at its own place."""

    def __init__(self, stream):
        self.stream = stream

    def batch(self, step, micro):
        return rows(np.roll(self.stream, step), 0)


def test_a_leaky_source_is_found(config, stream):
    report = loopos.doctor(config(), Leaky(stream), quick=True)
    assert [check.name for check in report.failures] == ["shift"]
    assert "the answer is in the question" in report["shift"].advice


def test_the_checks_come_through_the_whole(config, stream):
    report = loopos.doctor(config(), Cursor(stream), quick=True)
    assert {check.name for check in report.failures} == {"batches", "shift"}
