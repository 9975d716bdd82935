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
