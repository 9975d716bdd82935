"""softmax, log_softmax and logsumexp have one shape of contract; here stands what they share, and softmax's own.

What belongs to one of the others alone is in test_log_softmax.py and test_logsumexp.py.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import loopos
from loopos import ops

FAMILY = ("softmax", "log_softmax", "logsumexp")
every_op = pytest.mark.parametrize("name", FAMILY)


def lse(x):
    top = x.max(-1, keepdims=True)
    return top + np.log(np.exp(x - top).sum(-1, keepdims=True))


REFERENCES = {
    "softmax": lambda x: np.exp(x - lse(x)),
    "log_softmax": lambda x: x - lse(x),
    "logsumexp": lambda x: lse(x)[..., 0],
}


def forward(name, x):
    return getattr(ops, name)(x)


def backward(name, dy, x):
    """dx as a function of x for all three: softmax and log_softmax take their own result."""
    return getattr(ops, name + "_backward")(dy, x if name == "logsumexp" else forward(name, x))


@every_op
@settings(max_examples=40)
@given(
    shape=st.tuples(st.integers(0, 3), st.integers(1, 2), st.integers(1, 70)),
    axes=st.integers(1, 3),
    size=st.sampled_from([0.1, 1.0, 100.0]),
    seed=st.integers(0, 2**31),
)
def test_forward_is_the_formula(name, shape, axes, size, seed):
    x = size * np.random.default_rng(seed).standard_normal(shape[-axes:])
    before = x.copy()
    want = REFERENCES[name](x)
    y = forward(name, x)
    assert y.shape == want.shape
    np.testing.assert_array_equal(x, before)
    np.testing.assert_allclose(y, want, rtol=1e-12, atol=1e-13 * max(1, size))
    y = forward(name, x.astype(np.float32))
    assert y.dtype == np.float32
    np.testing.assert_allclose(
        y, REFERENCES[name](x.astype(np.float32).astype(np.float64)), rtol=2e-6, atol=1e-6 * size
    )


@every_op
def test_backward_is_the_derivative(name, check_gradient):
    x = 2 * np.random.default_rng(0).standard_normal((2, 3, 11))
    check_gradient(lambda x: forward(name, x), lambda dy, x: backward(name, dy, x), x)


@every_op
def test_float_agrees_with_double_at_every_scale(name, measured):
    assert measured["scales"][name] < 2e-7
    assert measured["scales"][name + "_backward"] < 2e-7


def test_accuracy_over_a_real_vocabulary(measured):
    figures = measured["vocabulary"]
    assert figures["softmax_sum"] < 2e-6


def test_extremes_on_every_instruction_set(measured):
    assert measured["extremes"] == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@every_op
def test_extremes(name, dtype):
    for size in (1e4, 3e38):
        x = np.full((1, 37), -size, dtype)
        x[0, 5] = size
        with np.errstate(over="ignore"):  # log_softmax: -6e38 is beyond float32
            want = {"softmax": np.eye(37, dtype=dtype)[5], "log_softmax": x[0] - x[0, 5], "logsumexp": dtype(size)}[
                name
            ]
        np.testing.assert_array_equal(forward(name, x)[0], want)
    np.testing.assert_array_equal(
        forward(name, np.full((4, 1), 7, dtype)).ravel(), {"softmax": 1, "log_softmax": 0}.get(name, 7)
    )
    one = np.ones((4, 1), dtype)
    dy = one[:, 0] if name == "logsumexp" else one
    np.testing.assert_array_equal(backward(name, dy, one), one if name == "logsumexp" else 0 * one)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 7, 33])
@every_op
def test_a_fully_masked_row_is_defined_and_counted(name, dtype, n):
    x = np.zeros((3, n), dtype)
    x[1] = -np.inf
    loopos.reset_guard_counts()
    y = forward(name, x)
    assert loopos.guard_counts()[name] == 1
    assert np.all(y[1] == (0 if name == "softmax" else -np.inf))
    assert np.isfinite(y[[0, 2]]).all()
    if name == "logsumexp":
        np.testing.assert_array_equal(ops.logsumexp_backward(np.ones(3, dtype), x)[1], np.zeros(n))
        assert loopos.guard_counts()[name] == 2
        assert np.isnan(ops.logsumexp_backward(np.full(3, np.nan, dtype), x)).all()
    loopos.reset_guard_counts()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@every_op
def test_a_masked_element_is_no_guard(name, dtype):
    x = np.zeros((2, 35), dtype)
    x[:, ::2] = -np.inf
    loopos.reset_guard_counts()
    y = forward(name, x)
    assert loopos.guard_counts()[name] == 0
    if name != "logsumexp":
        np.testing.assert_array_equal(y[:, ::2], 0 if name == "softmax" else -np.inf)
        y = y[:, 1::2]
    np.testing.assert_allclose(y, {"softmax": 1 / 17, "log_softmax": -np.log(17)}.get(name, np.log(17)), rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rest", [0.0, -np.inf])
@every_op
def test_nan_and_infinity_are_not_hidden(name, dtype, rest):
    for position in (0, 32, 34):
        x = np.full((2, 35), rest, dtype)
        x[0, position] = np.nan
        assert np.isnan(forward(name, x)[0]).all()
        x[0, position] = np.inf
        y = forward(name, x)[0]
        assert y == np.inf if name == "logsumexp" else np.isnan(y).all()
        dy = np.ones((2, 35), dtype)
        dy[0, position] = np.nan
        dx = backward(name, dy[:, position] if name == "logsumexp" else dy, np.zeros((2, 35), dtype))
        assert np.isnan(dx[0]).all()
        assert np.isfinite(dx[1]).all()
    assert np.isnan(ops.logsumexp(np.array([np.inf, np.nan], dtype)))


@every_op
def test_any_number_of_threads_gives_the_same_bits(name, check_threads):
    x = np.random.default_rng(0).standard_normal((301, 257)).astype(np.float32)
    dy = x[:, 3].copy() if name == "logsumexp" else x[::-1].copy()
    check_threads(lambda: (forward(name, x), backward(name, dy, x)))


@every_op
def test_views_equal_their_copies(name):
    x = np.random.default_rng(0).standard_normal((12, 10)).astype(np.float32)
    for view in (x.T, x[::2, ::-1], x[1:, 3:]):
        np.testing.assert_array_equal(forward(name, view), forward(name, view.copy()))
        dy = view[:, 0] if name == "logsumexp" else view
        np.testing.assert_array_equal(backward(name, dy, view), backward(name, dy.copy(), view.copy()))


@every_op
def test_empty_inputs(name):
    for shape in ((0, 5), (0, 0), (2, 0, 3)):
        x = np.empty(shape)
        y = forward(name, x)
        assert y.shape == (shape[:-1] if name == "logsumexp" else shape)
        assert backward(name, y, x).shape == shape
    for shape in ((0,), (3, 0)):
        with pytest.raises(ValueError, match=f"{name}: x must have at least one element on its last axis"):
            forward(name, np.empty(shape))


@every_op
def test_refusals(name):
    f, b = getattr(ops, name), getattr(ops, name + "_backward")
    x = np.ones((2, 3), np.float32)
    second = "x" if name == "logsumexp" else "y"
    for bad in (x.astype(np.float16), x.astype(np.int64), x > 0, [1.0], 1.0):
        with pytest.raises(TypeError, match=f"{name}: x must be a numpy array of dtype float32 or float64"):
            f(bad)
    with pytest.raises(ValueError, match=rf"{name}: x must have at least one axis, got shape \(\)"):
        f(np.array(1.0))
    with pytest.raises(TypeError, match=f"{name}_backward: .* must be a numpy array of dtype"):
        b(np.ones((2, 3)), x)
    with pytest.raises(ValueError, match=f"{name}_backward: (dy|{second}) must have shape"):
        b(x[:, :2], x)


@settings(max_examples=30)
@given(
    x=hnp.arrays(np.float32, st.tuples(st.integers(1, 3), st.integers(1, 40)), elements=st.floats(-300, 300, width=32))
)
def test_softmax_sums_to_one(x):
    y = ops.softmax(x)
    assert (y >= 0).all()
    np.testing.assert_allclose(y.astype(np.float64).sum(-1), 1, atol=2e-6)


@pytest.mark.reference
@every_op
def test_torch_agrees(name):
    torch = pytest.importorskip("torch")
    x = 5 * np.random.default_rng(0).standard_normal((4, 33))
    t = torch.tensor(x, requires_grad=True)
    y = getattr(torch, name)(t, -1)
    dy = np.random.default_rng(1).standard_normal(y.shape)
    y.backward(torch.tensor(dy))
    np.testing.assert_allclose(forward(name, x), y.detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(backward(name, dy, x), t.grad.numpy(), rtol=1e-11, atol=1e-13)
