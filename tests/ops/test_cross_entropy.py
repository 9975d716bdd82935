"""cross_entropy: formula, differences, dtypes and instruction sets, extremes, threads, refusals."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import loopos
from loopos import ops

OPTIONS = [
    {"label_smoothing": s, "z_loss": z, "reduction": r}
    for s, z, r in itertools.product((0.0, 0.1, 1.0), (0.0, 0.01), ("mean", "sum", "none"))
]
every_option = pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(map(str, o.values())))


def reference(x, t, ignore_index=-100, label_smoothing=0.0, z_loss=0.0, reduction="mean"):
    keep = t != ignore_index
    top = x.max(-1, initial=-np.inf)
    lse = top + np.log(np.exp(x - top[:, None]).sum(-1))
    target = x[np.arange(len(t)), np.where(keep, t, 0)]
    loss = (1 - label_smoothing) * (lse - target) + label_smoothing * (lse - x.mean(-1)) + z_loss * lse**2
    loss = np.where(keep, loss, 0)
    if reduction == "none":
        return loss, keep.sum()
    return loss.sum() / (max(keep.sum(), 1) if reduction == "mean" else 1), keep.sum()


def make(rows, vocab, seed=0, ignored=0.2, size=3.0):
    rng = np.random.default_rng(seed)
    t = rng.integers(0, vocab, rows)
    t[rng.random(rows) < ignored] = -100
    return size * rng.standard_normal((rows, vocab)), t


@every_option
@settings(max_examples=12)
@given(
    rows=st.integers(0, 9),
    vocab=st.integers(1, 70),
    seed=st.integers(0, 2**31),
    ints=st.sampled_from([np.int32, np.int64]),
)
def test_forward_is_the_formula(options, rows, vocab, seed, ints):
    x, t = make(rows, vocab, seed)
    want, count = reference(x, t, **options)
    before = x.copy(), t.copy()
    loss, got_count = ops.cross_entropy(x, t.astype(ints), **options)
    np.testing.assert_allclose(loss, want, rtol=1e-12, atol=1e-13)
    assert got_count == count
    assert type(got_count) is int
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(t, before[1])
    loss, _ = ops.cross_entropy(x.astype(np.float32), t.astype(ints), **options)
    np.testing.assert_allclose(loss, want, rtol=2e-6, atol=2e-6 * max(1, rows))
    if options["reduction"] == "none":
        assert loss.dtype == np.float32
        assert loss.shape == (rows,)
    else:
        assert type(loss) is float


@every_option
def test_backward_is_the_derivative(options, check_gradient):
    x, t = make(5, 7)
    assert (t == -100).any()
    check_gradient(
        lambda x: ops.cross_entropy(x, t, **options)[0],
        lambda dy, x: ops.cross_entropy_backward(dy if options["reduction"] == "none" else float(dy), x, t, **options),
        x,
    )


def test_float_agrees_with_double(measured):
    for name in ("cross_entropy", "cross_entropy_smooth"):
        assert measured["scales"][name] < 5e-7
        assert measured["scales"][name + "_backward"] < 2e-7
    figures = measured["vocabulary"]
    assert figures["loss"] < 5e-7
    assert figures["dlogits"] < 2e-7
    assert figures["dlogits_sure"] < 2e-7  # p_t - 1 formed by subtraction in float would give 1e-2 here


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extremes(dtype):
    for size in (1e4, 3e38):
        size = float(dtype(size))
        x = np.full((2, 37), -size, dtype)
        x[:, 3] = size
        loss, _ = ops.cross_entropy(x, np.array([3, 4]), reduction="sum")
        assert loss == 2 * size
        dx = ops.cross_entropy_backward(1.0, x, np.array([3, 4]), reduction="sum")
        np.testing.assert_array_equal(dx[0], 0)
        np.testing.assert_array_equal(dx[1], np.eye(37)[3] - np.eye(37)[4])
    one = np.full((3, 1), 5, dtype)
    assert ops.cross_entropy(one, np.zeros(3, int)) == (0.0, 3)
    np.testing.assert_array_equal(ops.cross_entropy_backward(1.0, one, np.zeros(3, int)), 0)
    masked = np.array([[0, -np.inf, 0]], dtype)
    assert ops.cross_entropy(masked, np.array([1]))[0] == np.inf
    np.testing.assert_allclose(ops.cross_entropy(masked, np.array([2]))[0], np.log(2))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_row_without_a_distribution_is_nan_and_counted(dtype):
    x = np.zeros((3, 35), dtype)
    x[1] = -np.inf
    loopos.reset_guard_counts()
    loss, count = ops.cross_entropy(x, np.array([0, 1, 2]), reduction="none")
    assert count == 3
    np.testing.assert_array_equal(np.isnan(loss), [False, True, False])
    assert loopos.guard_counts()["cross_entropy"] == 1
    dx = ops.cross_entropy_backward(1.0, x, np.array([0, 1, 2]))
    assert np.isnan(dx[1]).all()
    assert np.isfinite(dx[[0, 2]]).all()
    loopos.reset_guard_counts()
    assert ops.cross_entropy(x, np.array([0, -100, 2]))[1] == 2
    assert loopos.guard_counts()["cross_entropy"] == 0


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_ignored_rows_count_for_nothing(reduction):
    x, t = make(6, 9, ignored=0)
    t[[1, 4]] = 3
    options = {"ignore_index": 3, "reduction": reduction}
    assert (t == 3).sum() < 6
    bad = x.copy()
    bad[t == 3] = np.nan
    for a, b in ((ops.cross_entropy(x, t, **options), ops.cross_entropy(bad, t, **options)),):
        np.testing.assert_array_equal(a[0], b[0])
        assert a[1] == b[1] == (t != 3).sum()
    dloss = np.ones(6) if reduction == "none" else 1.0
    dx = ops.cross_entropy_backward(dloss, bad, t, **options)
    np.testing.assert_array_equal(dx[t == 3], 0)
    assert (dx[t != 3] != 0).all()


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("rows", [0, 4])
def test_nothing_to_count(reduction, rows):
    x, t = np.ones((rows, 5), np.float32), np.full(rows, -100)
    loss, count = ops.cross_entropy(x, t, reduction=reduction, label_smoothing=0.1, z_loss=0.1)
    assert count == 0
    np.testing.assert_array_equal(loss, np.zeros(rows) if reduction == "none" else 0.0)
    dloss = np.ones(rows, np.float32) if reduction == "none" else 1.0
    dx = ops.cross_entropy_backward(dloss, x, t, reduction=reduction)
    assert dx.shape == x.shape
    np.testing.assert_array_equal(dx, 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_are_not_hidden(bad):
    for position in (0, 34):
        x = np.zeros((2, 35), np.float32)
        x[0, position] = bad
        assert np.isnan(ops.cross_entropy(x, np.array([1, 1]))[0])
        dx = ops.cross_entropy_backward(1.0, x, np.array([1, 1]))
        assert np.isnan(dx[0]).all()
        assert np.isfinite(dx[1]).all()
    assert not np.isfinite(ops.cross_entropy_backward(bad, np.zeros((1, 3)), np.array([1]))).any()


def test_dloss_is_a_number_or_one_per_row():
    x, t = make(4, 5)
    want = ops.cross_entropy_backward(2.0, x, t, reduction="sum")
    for number in (2, np.float64(2), np.float32(2), np.array(2.0), np.array(2, np.float32)):
        np.testing.assert_array_equal(ops.cross_entropy_backward(number, x, t, reduction="sum"), want)
    rows = np.array([1.0, -2.0, 0.5, 3.0])
    one = ops.cross_entropy_backward(1.0, x, t, reduction="sum")
    np.testing.assert_allclose(
        ops.cross_entropy_backward(rows, x, t, reduction="none"), rows[:, None] * one, rtol=1e-14
    )
    for bad in ("1", None, True, 1j, np.int64(2), np.array(2)):
        with pytest.raises(TypeError, match="dloss must be a float, got"):
            ops.cross_entropy_backward(bad, x, t)
    with pytest.raises(ValueError, match=r"dloss must be a scalar, got an array of shape \(4,\)"):
        ops.cross_entropy_backward(rows, x, t)
    with pytest.raises(ValueError, match=r"dloss must have shape \(4,\), got \(3,\)"):
        ops.cross_entropy_backward(rows[:3], x, t, reduction="none")
    for bad in (1.0, rows.astype(np.float32)):
        with pytest.raises(TypeError, match="dloss must be a numpy array of dtype float64"):
            ops.cross_entropy_backward(bad, x, t, reduction="none")


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("bad", [-1, 5, 2**31, 2**63 - 1, -(2**63)])
def test_targets_out_of_range(backward, bad):
    x, t = np.zeros((4, 5)), np.array([-100, -100, bad, 0])
    name = "cross_entropy_backward" if backward else "cross_entropy"
    f = getattr(ops, name)
    with pytest.raises(IndexError, match=rf"{name}: targets must be from 0 to 4 .* got {bad} at position 2"):
        f(*([1.0] if backward else []), x, t)


@pytest.mark.parametrize("backward", [False, True])
def test_refusals(backward):
    name = "cross_entropy_backward" if backward else "cross_entropy"
    x, t = np.zeros((4, 5)), np.zeros(4, int)

    def f(*args, **options):
        return getattr(ops, name)(*([1.0] if backward else []), *args, **options)

    for bad in (-0.1, 1.1, np.nan, np.inf):
        with pytest.raises(ValueError, match=f"{name}: label_smoothing must be from 0 to 1, got"):
            f(x, t, label_smoothing=bad)
    for bad in (-0.1, np.nan, np.inf):
        with pytest.raises(ValueError, match=f"{name}: z_loss must be a finite number >= 0, got"):
            f(x, t, z_loss=bad)
    with pytest.raises(ValueError, match=f"{name}: reduction must be 'mean', 'sum' or 'none', got 'max'"):
        f(x, t, reduction="max")
    with pytest.raises(ValueError, match=rf"{name}: logits must have 2 axes, got shape \(5,\)"):
        f(x[0], t)
    with pytest.raises(ValueError, match=rf"{name}: targets must have shape \(4,\) .* got \(3,\)"):
        f(x, t[:3])
    with pytest.raises(ValueError, match=f"{name}: logits must have at least one class"):
        f(x[:, :0], np.full(4, -100))
    for bad in (t.astype(float), t > 0, t.astype(np.uint8), [0] * 4):
        with pytest.raises(TypeError, match=f"{name}: targets must be a numpy array of dtype int32 or int64"):
            f(x, bad)
    with pytest.raises(TypeError, match=f"{name}: logits must be a numpy array of dtype float32 or float64"):
        f(x.astype(np.float16), t)
    with pytest.raises(TypeError):
        f(x, t, -100)  # options are given by name


def test_any_number_of_threads_gives_the_same_bits(check_threads):
    x, t = make(301, 257)
    x = x.astype(np.float32)
    options = {"label_smoothing": 0.1, "z_loss": 0.01}
    check_threads(lambda: (*ops.cross_entropy(x, t, **options), ops.cross_entropy_backward(1.0, x, t, **options)))


def test_views_equal_their_copies():
    x, t = make(10, 10)
    for view, targets in ((x.T, t[::-1]), (x[::2, ::-1], t[::2])):
        assert ops.cross_entropy(view, targets) == ops.cross_entropy(view.copy(), targets.copy())
        got = ops.cross_entropy_backward(1.0, view, targets)
        np.testing.assert_array_equal(got, ops.cross_entropy_backward(1.0, view.copy(), targets.copy()))


@pytest.mark.reference
@every_option
def test_torch_agrees(options):
    torch = pytest.importorskip("torch")
    x, t = make(8, 33)
    leaf = torch.tensor(x, requires_grad=True)
    target = torch.tensor(t)
    loss = torch.nn.functional.cross_entropy(leaf, target, label_smoothing=options["label_smoothing"], reduction="none")
    loss = loss + options["z_loss"] * torch.logsumexp(leaf, -1) ** 2 * (target != -100)
    loss = {"none": loss, "sum": loss.sum(), "mean": loss.sum() / (target != -100).sum()}[options["reduction"]]
    dloss = np.arange(1.0, 9) if options["reduction"] == "none" else 1.5
    loss.backward(torch.tensor(dloss, dtype=torch.float64))
    np.testing.assert_allclose(ops.cross_entropy(x, t, **options)[0], loss.detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(
        ops.cross_entropy_backward(dloss, x, t, **options), leaf.grad.numpy(), rtol=1e-10, atol=1e-13
    )
