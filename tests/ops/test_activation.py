"""Elementwise activations, every f of the feed-forward among them: formula, differences, dtypes, instruction sets,
extremes, threads."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from loopos import ops
from loopos.choices import ACTIVATIONS, FUNCTIONS

erf = np.vectorize(math.erf, otypes=[float])


def sigmoid(x):
    return np.exp(-np.logaddexp(0, -x))


def gelu_tanh(x):
    return x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2


OPS = {
    "relu": (ops.relu, ops.relu_backward, lambda x: np.maximum(x, 0)),
    "gelu": (ops.gelu, ops.gelu_backward, lambda x: x * (1 + erf(x / math.sqrt(2))) / 2),
    "gelu_tanh": (partial(ops.gelu, approximate="tanh"), partial(ops.gelu_backward, approximate="tanh"), gelu_tanh),
    "silu": (ops.silu, ops.silu_backward, lambda x: x * sigmoid(x)),
    "sigmoid": (ops.sigmoid, ops.sigmoid_backward, sigmoid),
    "tanh": (ops.tanh, ops.tanh_backward, np.tanh),
}
F = dict.fromkeys(row.f for row in ACTIVATIONS.values())  # those of the feed-forward
NAMED = [f for f in F if f not in OPS]  # those that have no function of their own in loopos.ops
OPS |= {
    f: (partial(ops.activation, f=f), partial(ops.activation_backward, f=f), lambda x, f=f: FUNCTIONS[f].of(x)[0])
    for f in NAMED
}
STEEP = [f for f in F if FUNCTIONS[f].steepest is None]  # beyond x: a large x leaves the range
every_op = pytest.mark.parametrize("name", OPS)


@every_op
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@settings(max_examples=25)
@given(shape=hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=19), seed=st.integers(0, 2**31))
def test_forward_is_the_formula(name, dtype, shape, seed):
    x = (3 * np.random.default_rng(seed).standard_normal(shape)).astype(dtype)
    x = np.asarray(x, dtype)
    before = x.copy()
    y = OPS[name][0](x)
    assert y.dtype == dtype
    assert y.shape == shape
    np.testing.assert_array_equal(x, before)
    tolerance = 2e-6 if dtype == np.float32 else 1e-14
    want = OPS[name][2](x.astype(np.float64))
    np.testing.assert_allclose(y, want, rtol=tolerance / 8 if name in STEEP else 0, atol=tolerance)


@every_op
def test_backward_is_the_derivative(name, check_gradient):
    forward, backward, _ = OPS[name]
    x = np.concatenate([np.linspace(-5, 5, 40), [-0.75, 0.01, 12.0]])  # 0, where relu has a corner, is not among them
    check_gradient(forward, backward, x)


@every_op
def test_float_agrees_with_double_at_every_scale(name, measured):
    assert measured["scales"][name] < 2e-7
    assert measured["scales"][name + "_backward"] < 3e-7


def test_elementary_functions_keep_their_gates(measured):
    figures = measured["elementary"]
    assert figures["exp"] <= 2
    assert figures["exp_subnormal"] <= 1
    assert figures["exp_special"] == ["1.0", "1.0", "0.0", "0.0", "0.0", "inf", "inf", "inf", "nan"]
    for name in ("tanh", "sigmoid", "silu", "silu_subnormal"):
        assert 0 < figures[name] <= 4, name
    assert figures["gelu"] <= 2e-6
    assert figures["gelu_tanh"] <= 1e-6
    assert figures["gelu_relative"] <= 6e-7  # 1 + erf would lose the negative tail: 7e-3


def test_finite_numbers_raise_no_flag(measured):
    assert measured["flags"] == []


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@every_op
def test_extremes(name, dtype):
    forward, backward, _ = OPS[name]
    big = dtype(3e38 if dtype == np.float32 else 1e308)
    x = np.array([-big, -1e4, -np.finfo(dtype).tiny / 4, -0.0, 0.0, np.finfo(dtype).tiny / 4, 1e4, big], dtype)
    linear = name not in ("sigmoid", "tanh")
    if name in STEEP:
        with np.errstate(over="ignore", under="ignore"):
            want = [part.astype(dtype) for part in FUNCTIONS[name].of(x.astype(np.longdouble))]
        assert want[0][-1] == np.inf
        np.testing.assert_array_equal(forward(x), want[0])
        np.testing.assert_array_equal(backward(np.ones_like(x), x), want[1])
        return
    want = [0, 0, None, None, None, None, 1e4, big] if linear else [{"tanh": -1}.get(name, 0)] * 2 + [None] * 4 + [1, 1]
    y = forward(x)
    for got, expected in zip(y, want, strict=True):
        assert expected is None or got == dtype(expected)
    middle = y[2:6]
    np.testing.assert_allclose(middle, 0.5 if name == "sigmoid" else 0, atol=1e-37 if linear or name == "tanh" else 0)
    slope = backward(np.ones_like(x), x)
    assert slope[0] == slope[1] == 0
    assert slope[-1] == slope[-2] == (1 if linear else 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@every_op
def test_nan_and_infinity_are_not_hidden(name, dtype):
    forward, backward, _ = OPS[name]
    for position in (0, 7, 18):  # in a full vector and in a tail
        for sign in (-1, 1):
            x = np.full(19, sign * 0.5, dtype)
            bad = x.copy()
            bad[position] = np.nan
            expected = np.arange(19) == position
            np.testing.assert_array_equal(np.isnan(forward(bad)), expected)
            np.testing.assert_array_equal(np.isnan(backward(x, bad)), expected)
            np.testing.assert_array_equal(np.isnan(backward(bad, x)), expected)
    top, bottom = forward(np.array([np.inf, -np.inf], dtype))
    assert top == (1 if name in ("sigmoid", "tanh") else np.inf)
    if name in ("gelu", "gelu_tanh", "silu"):
        assert np.isnan(bottom)  # -inf * 0
    else:
        assert bottom == (-1 if name == "tanh" else 0)


def test_negative_zero_and_the_corner_of_relu():
    for name in ("tanh", "silu", "gelu"):
        assert np.signbit(OPS[name][0](np.array([-0.0], np.float32))[0])
    np.testing.assert_array_equal(ops.relu_backward(np.ones(2), np.array([0.0, -0.0])), [0, 0])


@every_op
def test_any_number_of_threads_gives_the_same_bits(name, check_threads):
    forward, backward, _ = OPS[name]
    x, dy = np.random.default_rng(0).standard_normal((2, 100_003)).astype(np.float32)
    check_threads(lambda: (forward(x), backward(dy, x)))


@every_op
def test_views_equal_their_copies(name):
    forward, backward, _ = OPS[name]
    x = np.random.default_rng(0).standard_normal((12, 10)).astype(np.float32)
    for view in (x.T, x[::2, ::-1], x[1:, 3:]):
        np.testing.assert_array_equal(forward(view), forward(view.copy()))
        np.testing.assert_array_equal(backward(view, view), backward(view.copy(), view.copy()))


@every_op
def test_refusals(name):
    forward, backward, _ = OPS[name]
    x = np.ones((2, 3), np.float32)
    label = "activation" if name in NAMED else name.removesuffix("_tanh")
    for bad in (x.astype(np.float16), x.astype(np.int64), x > 0, x.astype(">f4"), [1.0], 1.0, None):
        with pytest.raises(TypeError, match=f"{label}: x must be a numpy array"):
            forward(bad)
    with pytest.raises(TypeError, match=f"{label}_backward: dy must be a numpy array of dtype float32"):
        backward(x.astype(np.float64), x)
    with pytest.raises(ValueError, match=rf"{label}_backward: dy must have shape \(2, 3\), got \(3, 2\)"):
        backward(x.T, x)


@pytest.mark.parametrize("call", [partial(ops.gelu, np.ones(1)), partial(ops.gelu_backward, np.ones(1), np.ones(1))])
def test_gelu_refuses_an_unknown_approximation(call):
    with pytest.raises(ValueError, match="approximate must be 'none' or 'tanh', got 'fast'"):
        call("fast")


@every_op
def test_the_name_gives_the_same_bits(name):
    dy, x = np.random.default_rng(0).standard_normal((2, 50)).astype(np.float32)
    np.testing.assert_array_equal(ops.activation(x, name), OPS[name][0](x))
    np.testing.assert_array_equal(ops.activation_backward(dy, x, name), OPS[name][1](dy, x))


def test_an_unknown_name_is_refused():
    x = np.ones(2)
    for function, args in {
        "activation": (x,),
        "activation_backward": (x, x),
        "gated": (x, x),
        "gated_backward": (x,) * 3,
    }.items():
        with pytest.raises(ValueError, match=f"{function}: f must be one of 'relu', .*, got 'selu'"):
            getattr(ops, function)(*args, "selu")


@pytest.mark.reference
@every_op
def test_torch_agrees(name):
    torch = pytest.importorskip("torch")
    functions = {
        "relu2": lambda x: torch.relu(x).square(),
        "gelu": torch.nn.functional.gelu,
        "gelu_tanh": partial(torch.nn.functional.gelu, approximate="tanh"),
        "silu": torch.nn.functional.silu,
    }
    function = functions.get(name) or getattr(torch, name, None)
    if function is None:
        pytest.skip(f"torch has no function of the name {name}")
    x = np.linspace(-8, 8, 1001)
    t = torch.tensor(x, requires_grad=True)
    y = function(t)
    y.sum().backward()
    np.testing.assert_allclose(OPS[name][0](x), y.detach().numpy(), rtol=0, atol=1e-14)
    np.testing.assert_allclose(OPS[name][1](np.ones_like(x), x), t.grad.numpy(), rtol=0, atol=1e-14)
