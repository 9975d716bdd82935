"""What held-out losses say: a rise is told from wobble, and what is not finite or 0 is never good news."""

from __future__ import annotations

import math

import numpy as np
import pytest

from loopos.monitor.heldout import ABSENT, HOLDS, NOT_FINITE, RISES, ZERO, Point, compare

nan = math.nan


def told(evals, losses=None):
    """As of a log in which each evaluation follows its training loss."""
    losses = np.linspace(3, 0.5, len(evals)) if losses is None else losses
    held = [Point(2 * i + 1, f"step {i}", value) for i, value in enumerate(evals)]
    return compare(held, [(2 * i, loss) for i, loss in enumerate(losses)])


@pytest.mark.parametrize(
    ("evals", "best"),
    [
        ([4.0, 3.5, 3.1, 2.9, 2.8, 2.8, 3.05, 3.3, 3.55, 3.8], 5),
        ([2.26, 2.4, 2.7, 3.1, 3.5, 3.8, 4.0], 0),
        ([2.0, 1.6, 1.62, 1.66, 1.7, 1.75], 1),  # slow
        ([1.2, 1.05, 1.31, 1.4], 1),  # epochs of a fine-tuning
        ([3.0, 2.5, 2.1, 2.3, 2.2, 2.45, 2.5, 2.7, 2.65, 2.9], 2),  # with wobble
    ],
)
def test_a_rise_beside_a_falling_training_loss_is_learned_by_heart(evals, best):
    found = told(evals)
    assert (found.kind, found.by_heart, found.clear) == (RISES, True, True)
    says = f"rises since step {best}, from {evals[best]:.4g}, its best, to {evals[-1]:.4g} at step {len(evals) - 1}"
    assert says in found.says


@pytest.mark.parametrize(
    "evals",
    [
        [2.0],
        [3.0, 2.0],
        [3.0, 2.5, 2.2, 2.1, 2.05, 2.03],
        [2.0, 1.9, 1.95, 1.8, 1.85],
        [2.5, 2.0, 1.51, 1.5, 1.5, 1.51, 1.51],  # it stands
        [4.0, 4.0, 4.0, 4.0],
        [2.0, 1.5, 1.8, 1.4, 1.3],  # a restart of the schedule in between
        [2.0, 1.95, 1.99, 1.96],  # of few, a little
    ],
)
def test_what_falls_stands_or_wobbles_holds(evals):
    found = told(evals)
    assert found.kind == HOLDS
    assert f"{evals[-1]:.4g}" in found.says


def test_wobble_is_hardly_ever_a_rise():
    hits = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        count = int(rng.integers(4, 30))
        evals = 2 + np.exp(-np.arange(count) / 3) + rng.normal(0, 0.03, count)
        hits += told(list(evals)).kind == RISES
    assert hits <= 6


def test_one_evaluation_above_the_best_is_not_yet_clear():
    found = told([1.3, 1.05, 1.4])
    assert (found.kind, found.clear) == (RISES, False)
    assert told([1.3, 1.05, 1.07]).kind == HOLDS


def test_a_rise_of_both_is_not_learned_by_heart():
    evals = [2.0, 1.5, 1.8, 2.2, 2.6, 3.0]
    found = told(evals, evals)
    assert (found.kind, found.by_heart) == (RISES, False)
    assert "by heart" not in found.says


def test_losses_that_are_not_finite():
    found = told([nan] * 3)
    assert found.kind == NOT_FINITE
    assert "3 of 3" in found.says
    assert "masked" in found.says
    assert "half precision" in found.says
    found = told([2.0, 1.8, nan, math.inf])
    assert (found.kind, len(found.points)) == (NOT_FINITE, 2)
    assert "since step 2" in found.says
    assert told([2.0, nan, 1.8, 1.7]).kind == HOLDS
    assert "1 of 4 held-out losses are not finite" in told([2.0, nan, 1.8, 1.7]).says


def test_a_table_has_nan_where_nothing_was_evaluated():
    gapped = [nan, nan, 2.5, nan, nan, nan, 2.2, nan, nan, nan, 2.0, nan]
    assert told(gapped).kind == HOLDS
    assert "not finite" not in told(gapped).says
    assert told([*gapped, nan, nan]).kind == HOLDS  # as many as elsewhere
    assert told([*gapped, nan, nan, nan]).kind == NOT_FINITE  # one more: an evaluation is overdue
    assert told([2.5, nan, nan, nan, 2.2, nan, nan]).kind == NOT_FINITE  # two evaluations show no habit
    assert told([2.5, 2.4, nan, 2.2, 2.1, nan]).kind == NOT_FINITE


def test_a_loss_of_exactly_0_is_no_success():
    assert told([0.0, 0.0]).kind == ZERO
    assert "no target was scored" in told([0.0]).says
    assert told([0.5, 0.1, 0.0], [0.4, 0.05, 0.0]).kind == HOLDS  # it came near 0 before
    assert told([0.0, 0.0], [0.0, 0.0]).kind == HOLDS


def test_no_evaluation_is_said():
    assert told([]).kind == ABSENT
