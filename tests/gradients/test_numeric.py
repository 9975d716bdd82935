"""Derivatives by differences: against functions whose derivative is known."""

import math

import numpy as np
import pytest

from loopos.gradients.numeric import EPS, difference, relative, ridders


def test_a_difference_leaves_out_what_did_not_change():
    up, down = np.array([np.inf, 3.0, 5.0]), np.array([np.inf, 1.0, 5.0])
    slope, noise = difference(up, down, 0.5, np.array([1.0, 2.0, 7.0]))
    assert slope == 2.0 * 2.0 / 0.5
    assert noise == 2 * EPS * 2.0 * 3.0 / 0.5


@pytest.mark.parametrize(("f", "x", "expected"), [(np.sin, 1.0, math.cos(1.0)), (np.exp, 2.0, math.exp(2.0))])
def test_extrapolation_reaches_what_one_difference_does_not(f, x, expected):
    def central(h):
        return difference(np.array([f(x + h)]), np.array([f(x - h)]), 2 * h, np.ones(1))

    found, error = ridders(central, 0.1)
    assert abs(central(0.1)[0] - expected) > 1e-4
    assert abs(found - expected) <= max(error, 1e-12)
    assert error < 1e-9


def test_a_level_without_a_number_is_never_chosen():
    found, error = ridders(lambda h: (math.nan, 0.0) if h > 0.01 else (2.0, 1e-12), 0.1)
    assert (found, error) == (2.0, 1e-12)


def test_the_relative_error_is_that_of_the_worst_element():
    a, n = np.array([1.0, 2.0, 4.0]), np.array([1.0, 2.2, 4.0])
    error, worst = relative(a, n, np.zeros(3))
    assert worst == 1
    assert error == pytest.approx(0.2 / 2.2)
    assert relative(a, n, np.full(3, 0.3), whole=False)[0] == 0.0
    assert relative(a, np.array([1.0, np.nan, 4.0]), np.zeros(3))[0] == math.inf
