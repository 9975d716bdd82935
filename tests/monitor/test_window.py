"""The window: its medians are those of its values, and ``least`` is a bound whatever comes."""

from __future__ import annotations

import numpy as np
import pytest

from loopos.monitor.window import LATEST, Window


def test_of_nothing_there_is_no_median():
    window = Window(40)
    assert len(window) == 0
    assert np.isnan([window.median, window.latest]).all()


@pytest.mark.parametrize("size", [32, 33])
def test_medians_are_those_of_the_values(size):
    rng, window, values = np.random.default_rng(size), Window(size), []
    for value in rng.standard_normal(200).tolist():
        window.add_latest(value)
        values = [*values, value][-size:]
        assert window.values == values
        assert window.median == np.median(values)
        assert window.latest == np.median(values[-LATEST:])
        assert window.deviation() == pytest.approx(1.4826 * np.median(np.abs(values - np.median(values))), rel=1e-12)


@pytest.mark.parametrize(("size", "count"), [(32, 32), (128, 40), (128, 128), (33, 33)])
def test_least_bounds_the_median_of_what_is_to_come(size, count):
    rng = np.random.default_rng(count)
    for _ in range(50):
        window = Window(size, rng.standard_normal(count).tolist())
        bounds = [window.least(added) for added in range(13)]
        assert bounds == sorted(bounds, reverse=True)
        assert bounds[0] <= window.median
        for added in range(1, 13):
            window.add(-100.0)  # the worst
            assert window.median >= bounds[added]
