"""Differences of two scores."""

from __future__ import annotations

import numpy as np
import pytest

from loopos.scoring.choice import ChoiceScores
from loopos.scoring.comparison import differences
from loopos.scoring.exact import ExactScores
from loopos.scoring.perplexity import WindowLosses


def test_of_accuracies():
    rng = np.random.default_rng(0)
    right = rng.random((4, 50)) < [[0.5], [0.5], [0.9], [0.5]]
    zeros = np.zeros(50, int)
    before, after = (ChoiceScores(a, b, zeros, zeros, 0) for a, b in (right[:2], right[2:]))
    plain, normed = differences(before, after)
    assert plain.value == pytest.approx(right[2].mean() - right[0].mean())
    assert plain.interval.low > 0
    assert normed.interval.low < 0 < normed.interval.high
    (exact,) = differences(ExactScores(right[0], (), 0), ExactScores(right[2], (), 0))
    assert exact[1:] == plain[1:]


def test_of_losses_windows_are_paired():
    rng = np.random.default_rng(0)
    hard, counts = rng.normal(3, 1, 50) * 16, np.full(50, 16)  # windows differ far more than models do
    before, after = WindowLosses(hard, counts), WindowLosses(hard - rng.normal(0.1, 0.05, 50) * 16, counts)
    (found,) = differences(before, after)
    assert found.value == pytest.approx(after.loss - before.loss)
    assert found.interval.low < found.value < found.interval.high < 0
