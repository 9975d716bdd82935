"""The check of functions on arrays: scales, kinks, cancellation, roughness, functions that keep no promise."""

import numpy as np
import pytest

from loopos import gradcheck

X = np.random.default_rng(7).normal(size=(4, 4))


def test_the_gate_does_not_depend_on_the_scale():
    """1e-12 times a function has gradients far below any absolute tolerance."""
    tiny = (lambda x: 1e-12 * np.sin(x), lambda dy, x: 1e-12 * dy * np.cos(x))
    wrong = (tiny[0], lambda dy, x: 1.001e-12 * dy * np.cos(x))
    assert gradcheck(tiny, X)
    assert not gradcheck(wrong, X, raise_exception=False)


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_the_step_follows_the_input(size):
    log = (np.log, lambda dy, x: dy / x)
    assert gradcheck(log, np.linspace(1, 3, 5) * max(size, 1e-2), rtol=1e-6)


def test_a_kink_outside_the_step_does_not_matter():
    x = np.array([-1e-4, 1e-4, 0.5, -0.5])
    assert gradcheck((lambda x: np.maximum(x, 0), lambda dy, x: dy * (x > 0)), x)


def test_cancellation_gets_a_second_opinion():
    """Rounding of 1e6 buries a difference over 2e-6; the extrapolated one over longer steps still decides at 1e-6."""
    right = (lambda x: 1e6 + np.sin(x), lambda dy, x: dy * np.cos(x))
    assert gradcheck(right, X, rtol=1e-6)
    for factor in (1.001, 1.0001, 1.00001):  # the last two are below the rounding of every single element
        assert not gradcheck((right[0], lambda dy, x, f=factor: f * dy * np.cos(x)), X, raise_exception=False)


def test_roughness_is_not_forgiven():
    """A function that moves in steps of 1e-7 cannot vouch for a gradient to 1e-6."""
    assert not gradcheck((lambda x: np.round(np.sin(x), 7), lambda dy, x: dy * np.cos(x)), X, raise_exception=False)


def test_a_constant_infinity_is_left_out():
    def f(x):
        return np.concatenate([np.full(1, -np.inf), x**2])

    assert gradcheck((f, lambda dy, x: 2 * dy[1:] * x), X[0])


def test_all_zero_proves_nothing():
    flat = (np.round, lambda dy, x: 0 * dy)
    x = np.array([0.3, 1.2])
    assert "proves nothing" in str(gradcheck(flat, x, raise_exception=False))
    assert gradcheck(flat, x, allow_zero=True)
    claims = (np.round, lambda dy, x: dy)
    assert not gradcheck(claims, x, allow_zero=True, raise_exception=False)


def test_a_function_that_changes_its_input_or_its_mind_is_caught():
    def changing(dy, x):
        x *= 2
        return dy

    assert "changed one of its inputs" in str(gradcheck((lambda x: x, changing), X, raise_exception=False))
    noise = np.random.default_rng(0)
    moody = (lambda x: x * noise.normal(), lambda dy, x: dy)
    assert "differ" in str(gradcheck(moody, X, raise_exception=False))


def test_buffers_that_a_function_reuses_are_no_trap():
    out, grad = np.empty(4), np.empty(4)

    def reuse(x, y):
        np.multiply(x, y, out=out)
        np.copyto(grad, y)
        return out.sum(), (grad, x)

    assert gradcheck(reuse, (X[0], X[1]))


def test_a_function_that_ends_near_the_input_says_so():
    x = np.array([1e-9, 1.0])
    report = gradcheck((np.sqrt, lambda dy, x: dy / (2 * np.sqrt(x))), x, raise_exception=False)
    assert not report
    assert "not finite around" in str(report)
