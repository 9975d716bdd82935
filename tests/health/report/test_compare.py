"""Two runs are compared where a step means the same in both, and else not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from loopos.health.report.compare import FEWEST, compare
from loopos.health.runs import Run

STEPS = 40


def run(offset=0.0, noise=0.0, steps=range(1, STEPS + 1), seed=0, **changed):
    """A falling loss, the same hardness of each batch in all runs."""
    hard = np.random.default_rng(7).normal(0, 0.3, 2000)
    own = np.random.default_rng(seed).normal(0, noise, 2000) if noise else np.zeros(2000)
    lines = [
        {"step": s, "loss": 4 - 0.02 * s + hard[s] + own[s] + offset, "learning_rate": 1e-3, "epoch": s / 10}
        | {"valid_tokens": 100 + s % 3}
        | changed
        for s in steps
    ]
    return Run(Path("x"), lines, [])


def test_a_difference_is_found_below_the_noise_of_the_batches():
    found = compare(run(), run(offset=-0.05, noise=0.02))
    assert found.comparable
    assert found.steps == STEPS
    assert found.difference == pytest.approx(-0.05, abs=0.015)
    assert found.interval[0] < found.difference < found.interval[1] < 0
    assert str(found).startswith("B's loss is lower by 0.0")
    assert "higher" in str(compare(run(offset=-0.05, noise=0.02), run()))


def test_noise_is_no_difference():
    outside = [compare(run(), run(noise=0.02, seed=seed)) for seed in range(1, 201)]
    told = sum(not str(found).startswith("no difference beyond noise") for found in outside)
    assert told <= 24  # 5 % of 200 is 10, of 20 differences each a little more
    same = compare(run(), run())
    assert (same.difference, same.interval) == (0.0, (0.0, 0.0))
    assert "no difference" in str(same)


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (
            run(learning_rate=2e-3),
            "other learning rates: learning rate 0.001 against 0.002 at step 1, and so at 40 of 40",
        ),
        (run(steps=range(100, 140)), "other phases: steps 1 to 40 against 100 to 139"),
        (run(epoch=0.5), "other phases: epoch 0.1 against 0.5 at step 1"),
        (run(valid_tokens=7), "other batches: valid tokens 101 against 7 at step 1"),
        (run(steps=range(1, FEWEST)), "7 losses of the same steps are too few: at least 8"),
        (run(valid_tokens=0), "one of the logs has no step with a target"),
        (run(loss=None), "B has a loss that is not finite at step 1"),
        (Run(Path("x"), [], []), "one of the logs has no step with a target"),
    ],
)
def test_what_is_not_the_same_step_is_not_compared(other, reason):
    found = compare(run(), other)
    assert not found.comparable
    assert found.difference is None
    assert reason in str(found)
    assert str(found).startswith("not comparable: ")
