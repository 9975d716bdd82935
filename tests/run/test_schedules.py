"""loopos/run/schedules.py: the rate of every update, and the length of a run."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopos.run.schedules import SCHEDULES, ahead, check_schedule, learning_rate, total_steps


def rates(n, **kwargs):
    return [learning_rate(t, n, **kwargs) for t in range(n)]


def test_values_by_hand():
    assert rates(3, lr=0.5, schedule="constant") == [0.5, 0.5, 0.5]
    assert rates(4, lr=1.0, schedule="linear") == [1.0, 0.75, 0.5, 0.25]
    assert rates(4, lr=1.0, schedule="linear", min_lr=0.5) == [1.0, 0.875, 0.75, 0.625]
    assert rates(6, lr=1.0, schedule="linear", warmup_steps=2) == [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]
    assert rates(5, lr=1.0, schedule="constant", warmup_steps=4) == [0.25, 0.5, 0.75, 1.0, 1.0]
    half = math.sqrt(0.5)
    assert rates(4, lr=2.0, schedule="cosine") == pytest.approx([2.0, 1 + half, 1.0, 1 - half], rel=1e-15)
    assert rates(2, lr=2.0, schedule="cosine", min_lr=1.0) == pytest.approx([2.0, 1.5], rel=1e-15)


def test_the_default_is_cosine_to_zero_without_warm_up():
    assert rates(10, lr=1.0) == rates(10, lr=1.0, schedule="cosine", warmup_steps=0, min_lr=0.0)


def test_all_warm_up():
    for schedule in SCHEDULES:
        assert rates(4, lr=1.0, schedule=schedule, warmup_steps=8) == [0.125, 0.25, 0.375, 0.5]
        assert rates(2, lr=1.0, schedule=schedule, warmup_steps=2) == [0.5, 1.0]


@given(
    n=st.integers(1, 60),
    warmup=st.integers(0, 70),
    lr=st.floats(1e-6, 10),
    share=st.floats(0, 1),
    schedule=st.sampled_from(SCHEDULES),
)
def test_shape_of_every_schedule(n, warmup, lr, share, schedule):
    floor = lr * share
    got = rates(n, lr=lr, schedule=schedule, warmup_steps=warmup, min_lr=floor)
    slack = 1e-14 * lr  # a few roundings
    rising, falling = got[:warmup], got[warmup:]
    assert rising == sorted(rising)
    assert all(a + slack >= b for a, b in pairwise(falling))
    assert all(floor - slack <= rate <= lr + slack for rate in falling)
    if falling:
        assert abs(falling[0] - lr) <= slack


@given(n=st.integers(1, 500), warmup=st.integers(0, 500))
def test_the_end_is_min_lr(n, warmup):
    for schedule in ("cosine", "linear"):
        if warmup < n:
            assert learning_rate(n, n, lr=1.0, schedule=schedule, warmup_steps=warmup, min_lr=0.25) == 0.25


def test_rate_zero_stays_zero():
    for schedule in SCHEDULES:
        assert rates(5, lr=0.0, schedule=schedule, warmup_steps=2) == [0.0] * 5


def test_updates_outside_the_run():
    for t in (-1, 5):
        with pytest.raises(ValueError, match=f"from 0 to max_steps 4, got {t}"):
            learning_rate(t, 4, lr=1.0)
    with pytest.raises(ValueError, match="one of cosine, linear, constant, got 'step'"):
        learning_rate(0, 4, lr=1.0, schedule="step")


def test_check_schedule_gives_plain_numbers():
    assert check_schedule(learning_rate=1) == (1.0, "cosine", 0, 0.0)
    assert check_schedule(learning_rate=0, min_lr=0) == (0.0, "cosine", 0, 0.0)
    assert check_schedule(learning_rate=1e-4, lr_schedule="constant", min_lr=1e-3)[3] == 1e-3


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"learning_rate": -1e-3}, ValueError),
        ({"learning_rate": float("nan")}, ValueError),
        ({"learning_rate": float("inf")}, ValueError),
        ({"learning_rate": "1e-3"}, TypeError),
        ({"learning_rate": None}, TypeError),
        ({"learning_rate": True}, TypeError),
        ({"lr_schedule": "step"}, ValueError),
        ({"lr_schedule": None}, TypeError),
        ({"warmup_steps": -1}, ValueError),
        ({"warmup_steps": 1.5}, TypeError),
        ({"min_lr": -1e-9}, ValueError),
        ({"min_lr": float("nan")}, ValueError),
        ({"min_lr": 2e-3}, ValueError),
    ],
)
def test_check_schedule_names_what_is_wrong(changes, error):
    with pytest.raises(error, match=f"train: {next(iter(changes))} "):
        check_schedule(**{"learning_rate": 1e-3, **changes})


@pytest.mark.parametrize(
    ("max_steps", "epochs", "per_epoch", "steps"),
    [(None, None, 7, 7), (None, 3, 7, 21), (10, None, 7, 10), (10, None, None, 10), (10, 3, 7, 10), (100, 3, 7, 21)],
)
def test_total_steps(max_steps, epochs, per_epoch, steps):
    assert total_steps(max_steps, epochs, per_epoch) == steps


@pytest.mark.parametrize("max_steps", [None, 10])
def test_epochs_need_a_length(max_steps):
    with pytest.raises(ValueError, match="epochs 2 needs a dataset with len"):
        total_steps(max_steps, 2, None)


def test_nothing_given_needs_a_length():
    with pytest.raises(ValueError, match=r"one epoch .* needs a dataset with len"):
        total_steps(None, None, None)


@pytest.mark.parametrize("name", ["max_steps", "epochs"])
def test_total_steps_checks_what_it_is_given(name):
    for value, error in ((0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)):
        arguments = {"max_steps": None, "epochs": None, name: value}
        with pytest.raises(error, match=f"train: {name} must be an integer of at least 1, got {value}"):
            total_steps(**arguments, steps_per_epoch=7)


def test_more_updates_than_anyone_counts_are_refused():
    assert total_steps(None, 2**40, 2**22) == 2**62
    assert total_steps(7, 2**53, 2**53) == 7
    with pytest.raises(ValueError, match=r"epochs 1099511627776 of 8388608 steps .* more than"):
        total_steps(None, 2**40, 2**23)


def test_the_rate_ahead_is_that_of_the_end_of_the_warm_up():
    each = rates(20, lr=1.0, schedule="linear", warmup_steps=8)
    assert [ahead(t, 20, 8) * each[t] for t in range(8)] == pytest.approx([1.0] * 8)
    assert [ahead(t, 20, 8) for t in range(8, 20)] == [1.0] * 12
    assert [ahead(t, 4, 8) for t in range(4)] == [4, 2, pytest.approx(4 / 3), 1]  # the run ends before
    assert ahead(0, 20, 0) == 1.0
