"""loopos.gradcheck: right gradients pass at the gate, every kind of wrong one is caught, inputs keep their bits."""

import pickle

import numpy as np
import pytest

from loopos.gradients.gradcheck import GradcheckError, gradcheck

rng = np.random.default_rng(7)
X = rng.normal(size=(4, 4))
W = rng.normal(size=(4, 4))


def forward(x, w):
    return np.tanh(x @ w)


def backward(dy, x, w):
    dz = dy * (1 - np.tanh(x @ w) ** 2)
    return dz @ w.T, x.T @ dz


def spoiled(spoil):
    """The pair with its second gradient spoiled."""

    def wrong(dy, x, w):
        dx, dw = backward(dy, x, w)
        return dx, spoil(dw)

    return forward, wrong


def scaled_element(dw):
    dw = dw.copy()
    dw[np.unravel_index(np.argsort(np.abs(dw).reshape(-1))[dw.size // 2], dw.shape)] *= 1.001
    return dw


def with_nan(dw):
    dw = dw.copy()
    dw[2, 3] = np.nan
    return dw


def test_a_right_pair_passes_with_room():
    report = gradcheck((forward, backward), (X, W))
    assert report
    assert report.max_error < 1e-7
    assert [r.name for r in report.results] == ["input 0", "input 1"]
    assert "passed" in str(report)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda dw: dw * 1.001, "wrong"),
        (scaled_element, "wrong"),
        (lambda dw: dw + 1e-5, "wrong"),
        (np.zeros_like, "zero"),
        (np.negative, "wrong"),
        (np.transpose, "wrong"),
        (with_nan, r"nan at \[2, 3\]"),
        (lambda dw: dw[:3], "expected float64"),
        (lambda dw: dw.astype(np.float32), "expected float64"),
    ],
    ids=["0.1 %", "0.1 % of one", "offset", "zero", "sign", "transposed", "nan", "shape", "dtype"],
)
def test_a_wrong_gradient_is_caught(spoil, says):
    with pytest.raises(GradcheckError, match=says) as caught:
        gradcheck(spoiled(spoil), (X, W))
    first, second = caught.value.report.results
    assert first.passed
    assert not second.passed
    assert second.error > 1e-6
    report = gradcheck(spoiled(spoil), (X, W), raise_exception=False)
    assert not report
    assert str(report) == str(caught.value)


def test_a_scalar_function_with_labels():
    labels = np.array([0, 2, 1, 2])

    def nll(x, labels, weight):
        e = np.exp(x - x.max(axis=1, keepdims=True))
        p = e / e.sum(axis=1, keepdims=True)
        rows = np.arange(len(labels))
        dx = p.copy()
        dx[rows, labels] -= 1
        return -weight * np.log(p[rows, labels]).sum(), (dx * weight, None, None)

    report = gradcheck(nll, (X, labels, 3.0))
    assert len(report.results) == 1
    assert report.max_error < 1e-7


def test_a_bare_gradient_of_a_bare_input():
    assert gradcheck(lambda x: (float((x**3).sum()), 3 * x**2), X)
    assert gradcheck(lambda x: (float(x) ** 2, 2 * x), np.array(1.5))


def test_inputs_keep_their_bits_even_when_the_function_fails():
    x, w = X.copy(), np.asfortranarray(W)
    before = x.tobytes(), w.tobytes("A")
    gradcheck((forward, backward), (x, w))
    gradcheck(spoiled(np.negative), (x, w), raise_exception=False)
    calls = []

    def failing(x, w):
        calls.append(1)
        if len(calls) == 5:
            raise RuntimeError("boom")
        return forward(x, w)

    with pytest.raises(RuntimeError, match="boom"):
        gradcheck((failing, backward), (x, w))
    assert (x.tobytes(), w.tobytes("A")) == before


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.complex128, np.longdouble])
def test_other_float_inputs_are_refused(dtype):
    with pytest.raises(TypeError, match=r"input 1 is .*, expected float64"):
        gradcheck((forward, backward), (X, W.astype(dtype)))


def test_misuse_is_named():
    with pytest.raises(ValueError, match="expected 2 gradients"):
        gradcheck((forward, lambda dy, x, w: (dy,)), (X, W))
    with pytest.raises(ValueError, match="need a tuple"):
        gradcheck((forward, lambda dy, x, w: dy), (X, W))
    with pytest.raises(ValueError, match="every gradient is None"):
        gradcheck((forward, lambda dy, x, w: (None, None)), (X, W))
    with pytest.raises(ValueError, match="must be None"):
        gradcheck((lambda x, k: x, lambda dy, x, k: (dy, dy)), (X, np.arange(3)))
    with pytest.raises(ValueError, match="no float64 array"):
        gradcheck((forward, backward), (np.arange(3),))
    with pytest.raises(ValueError, match="a scalar first"):
        gradcheck(lambda x: (x, x), X)
    with pytest.raises(TypeError, match="several results"):
        gradcheck((lambda x: (x, x), lambda dy, x: dy), X)
    with pytest.raises(TypeError, match="must return float64"):
        gradcheck((lambda x: x.astype(np.float32), lambda dy, x: dy), X)
    with pytest.raises(TypeError, match="fn must be"):
        gradcheck("forward", X)
    for bad in ({"rtol": 0.0}, {"rtol": float("nan")}, {"h": -1.0}, {"directions": 0}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            gradcheck((forward, backward), (X, W), **bad)


def test_an_empty_input_has_nothing_wrong():
    report = gradcheck((forward, backward), (X, W[:, :0]), allow_zero=True)
    assert "no elements" in str(report)


def test_the_error_survives_pickling():
    with pytest.raises(GradcheckError) as caught:
        gradcheck(spoiled(np.negative), (X, W))
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
