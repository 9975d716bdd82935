"""Shared by the tests of loopos.linalg: gradients, scales."""

from __future__ import annotations

import numpy as np
import pytest
from complex_matrices import adjoint, real_gradient, relative

import loopos


@pytest.fixture
def check_gradient():
    """check(forward, backward, x, hermitian=True, seed=0): backward(dy) against central differences of the real part of
    sum conj(dy) forward(x), in complex128.

    It must be right to 1e-6, have a number that is not 0 and, planted with an error of 0.1 %, be found out."""

    def check(forward, backward, x, hermitian=True, seed=0):
        y = np.asarray(forward(x))
        rng = np.random.default_rng(seed)
        dy = rng.standard_normal(y.shape)
        if np.iscomplexobj(y):
            dy = dy + 1j * rng.standard_normal(y.shape)
        want = real_gradient(lambda x: np.vdot(dy, forward(x)).real, x, hermitian)
        got = np.asarray(backward(dy))
        assert got.shape == x.shape
        assert got.dtype == x.dtype
        assert np.any(got != 0)
        assert relative(got, want) < 1e-6
        assert relative(got * 1.001, want) > 1e-6  # a planted error of 0.1 %
        planted = got.copy()
        planted.flat[np.abs(got).argmax()] *= 1.001  # and in one element
        assert relative(planted, want) > 1e-6
        if hermitian:
            np.testing.assert_array_equal(got, adjoint(got))

    return check


@pytest.fixture
def check_scales():
    """check(f, power, *inputs, tolerance): complex64 against complex128 where the first input is multiplied by powers
    of 2 up to the ends of float32, and f(s x) = s^power f(x)."""

    def check(f, power, x, *rest, tolerance=2e-6, reach=120):
        single = [np.asarray(each, np.complex64) for each in (x, *rest)]
        want = np.asarray(f(*(each.astype(np.complex128) for each in single)))
        for exponent in (0, 3, 9, 60, -60, reach // max(1, abs(power)), -reach // max(1, abs(power))):
            if abs(exponent * power) > reach:
                continue
            got = np.asarray(f(single[0] * np.float32(2.0**exponent), *single[1:]))
            assert got.dtype in (np.complex64, np.float32)
            assert relative(got * 2.0 ** (-exponent * power), want) < tolerance, exponent

    return check


@pytest.fixture
def guards():
    loopos.reset_guard_counts()
    yield loopos.guard_counts
    loopos.reset_guard_counts()
