"""trace_normalize: what it gives, what it tells of its floor, what it refuses; and its backward."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
from complex_matrices import DTYPES, SHAPES, complex_normal, hermitian, positive, relative

from loopos import linalg
from loopos.errors import AmplificationError


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_forward_brings_the_trace_to_the_target(shape, dtype, guards):
    r = 1e-4 * positive(np.random.default_rng(0), *shape).astype(dtype)
    y, info = linalg.trace_normalize(r)
    assert y.dtype == dtype
    np.testing.assert_allclose(np.trace(y, axis1=-2, axis2=-1).real, shape[-1], rtol=1e-6)
    assert (info.trace.shape, info.factor.dtype) == (shape[:-1], np.float64)
    assert relative(y, r * info.factor[..., None, None]) < 1e-7
    np.testing.assert_allclose(info.trace, np.trace(r.astype(complex), axis1=-2, axis2=-1).real, rtol=1e-6)
    assert (info.count, info.floored.any(), guards()["trace_normalize_floor"]) == (0, False, 0)
    assert linalg.trace(linalg.trace_normalize(r, target=2.5)[0]) == pytest.approx(2.5, rel=1e-6)


def test_a_floor_that_decides_is_told_and_counted(guards):
    r = np.stack([np.eye(3), np.diag([1, -2, 0.5]), np.zeros((3, 3)), 1e-5 * np.eye(3)]).astype(complex)
    y, info = linalg.trace_normalize(r, floor=1e-3, max_amplification=3e3)
    assert info.floored.tolist() == [False, True, True, True]
    assert (info.count, info.floor, guards()["trace_normalize_floor"]) == (3, 1e-3, 3)
    np.testing.assert_allclose(info.trace, [3, -0.5, 0, 3e-5])
    np.testing.assert_allclose(info.factor, [1, 3e3, 3e3, 3e3])
    np.testing.assert_allclose(linalg.trace(y), [3, -1500, 0, 0.09])
    assert "3 of 4 traces below the floor 0.001, the first in batch entry (1,): trace -0.5, factor 3000" in str(info)
    assert "no trace below the floor" in str(linalg.trace_normalize(r[0])[1])


def test_an_amplification_above_the_limit_is_refused():
    r = np.zeros((2, 12, 12), np.complex64)
    r[:, range(3), range(3)] = [[1, 1, 1], [1, -2, 0.5]]
    for call in (linalg.trace_normalize, lambda r: linalg.trace_normalize_backward(r, r)):
        with pytest.raises(
            AmplificationError, match=r"batch entry \(1,\): the trace of r is -0.5, below the floor"
        ) as e:
            call(r)
        assert (e.value.batch, e.value.trace, e.value.floor) == ((1,), -0.5, 1e-9)
        assert e.value.factor == pytest.approx(12e9)
        for said in ("-0.5", "1e-09", "1.2e+10", "max_amplification = 1e+10"):
            assert said in str(e.value)
        copied = pickle.loads(pickle.dumps(e.value))
        assert (str(copied), copied.batch, copied.factor) == (str(e.value), e.value.batch, e.value.factor)
    assert linalg.trace_normalize(r, max_amplification=math.inf)[1].count == 1
    assert linalg.trace_normalize(r[:, :3, :3])[1].count == 1  # of small matrices a floor of 1e-9 is told, not refused
    with pytest.raises(AmplificationError, match=r"the trace of r is 1e-05 \(floor 1e-09\): to bring it to 2 takes"):
        linalg.trace_normalize(5e-6 * np.eye(2, dtype=complex), max_amplification=1e5)


def test_without_a_floor_no_trace_has_no_factor():
    free = {"floor": 0.0, "max_amplification": math.inf}
    for trace, r in (("0", np.zeros((2, 2), complex)), ("-2", -np.eye(2, dtype=complex))):
        with pytest.raises(AmplificationError) as e:
            linalg.trace_normalize(r, **free)
        sentence = (
            rf"the trace of r is {trace} and the floor 0: no factor brings it to 2; pass a floor above 0, or see why"
        )
        assert sentence in str(e.value)
        assert (e.value.trace, e.value.floor) == (float(trace), 0)
    with pytest.raises(AmplificationError, match="takes a factor of inf, beyond the range of double; see why"):
        linalg.trace_normalize(1e-310 * np.eye(2, dtype=complex), **free)


@pytest.mark.parametrize("floor", [1e-9, 1e3])
def test_backward_is_the_derivative(floor, check_gradient):
    r = positive(np.random.default_rng(1), 2, 5) + 0.1 * complex_normal(np.random.default_rng(2), 2, 5, 5)
    check_gradient(
        lambda r: linalg.trace_normalize(r, 2.0, floor)[0],
        lambda dy: linalg.trace_normalize_backward(dy, r, 2.0, floor),
        r,
        hermitian=False,
    )


@pytest.mark.reference
@pytest.mark.parametrize("floor", [1e-9, 1e3])
def test_backward_is_that_of_torch(floor):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    r, dy = positive(rng, 3, 20), complex_normal(rng, 3, 20, 20)
    x = torch.tensor(r, requires_grad=True)
    traces = torch.diagonal(x, dim1=-2, dim2=-1).real.sum(-1).clamp_min(floor)
    (x * (20 / traces).view(-1, 1, 1)).backward(torch.tensor(dy))
    assert relative(linalg.trace_normalize_backward(dy, r, floor=floor), x.grad.numpy()) < 1e-12


def test_float_agrees_with_double_at_every_scale(check_scales):
    rng = np.random.default_rng(4)
    r, dy = positive(rng, 30), hermitian(rng, 30)
    free = {"floor": 0.0, "max_amplification": math.inf}
    check_scales(lambda r: linalg.trace_normalize(r, **free)[0], 0, r)
    check_scales(lambda r, dy: linalg.trace_normalize_backward(dy, r, **free), -1, r, dy)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1e-38, 1e-19, 1e19, 1e37])
def test_extremes(dtype, size):
    r = (size * np.eye(3)).astype(dtype)
    y, info = linalg.trace_normalize(r, floor=0.0, max_amplification=math.inf)
    np.testing.assert_allclose(y, np.eye(3), rtol=1e-6)
    assert info.factor == pytest.approx(1 / size, rel=1e-5)
    with pytest.raises(ValueError, match="trace of r is beyond the range of double"):
        linalg.trace_normalize(1e308 * np.eye(3, dtype=complex))
    r[0, 1] = np.nan
    with pytest.raises(ValueError, match=r"r must be finite, got nan .* as element \(0, 1\)"):
        linalg.trace_normalize(r)


@pytest.mark.parametrize("dtype", DTYPES)
def test_empty(dtype):
    y, info = linalg.trace_normalize(np.zeros((0, 3, 3), dtype))
    assert (y.shape, info.trace.shape, info.count, str(info)) == (
        (0, 3, 3),
        (0,),
        0,
        "no matrix, no trace below the floor 1e-09",
    )
    assert linalg.trace_normalize_backward(np.zeros((0, 3, 3), dtype), np.zeros((0, 3, 3), dtype)).shape == (0, 3, 3)


def test_bad_arguments():
    r = np.eye(3, dtype=complex)
    for shape in ((0, 0), (3, 0, 0)):
        none = np.zeros(shape, complex)
        for call in (lambda: linalg.trace_normalize(none), lambda: linalg.trace_normalize_backward(none, none)):  # noqa: B023
            with pytest.raises(
                ValueError, match="r must have at least one row: a matrix of 0 x 0 has no trace to scale"
            ):
                call()
    for name, value in (("target", 0.0), ("target", math.nan), ("floor", -1.0), ("max_amplification", 0.0)):
        with pytest.raises(ValueError, match=f"trace_normalize: {name} must be"):
            linalg.trace_normalize(r, **{name: value})


def test_any_number_of_threads_gives_the_same_bits(check_threads):
    r = positive(np.random.default_rng(5), 9, 40).astype(np.complex64)
    check_threads(lambda: (linalg.trace_normalize(r)[0], linalg.trace_normalize_backward(r, r)))
