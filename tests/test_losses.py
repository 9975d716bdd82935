"""loopos.losses: formulas, torch, scales, refusals. What an operation must prove is in tests/ops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_references import CALLS, every_loss, pair, reference

from loopos import losses


@every_loss
@settings(max_examples=20)
@given(shape=st.lists(st.integers(0, 4), min_size=0, max_size=2), width=st.integers(1, 600), seed=st.integers(0, 999))
def test_forward_is_the_formula(name, shape, width, seed):
    s, t = pair(*shape, width, seed=seed)
    want = reference(name, s, t)
    before = s.copy(), t.copy()
    loss, gradient = CALLS[name](s, t)
    assert type(loss) is float
    np.testing.assert_allclose(loss, want, rtol=1e-12, atol=1e-14)
    assert gradient.shape == s.shape
    assert gradient.dtype == s.dtype
    np.testing.assert_array_equal(s, before[0])
    np.testing.assert_array_equal(t, before[1])
    loss, gradient = CALLS[name](s.astype(np.float32), t.astype(np.float32))
    np.testing.assert_allclose(loss, want, rtol=3e-6, atol=3e-7)
    assert gradient.dtype == np.float32


@pytest.mark.reference
@pytest.mark.parametrize("size", [1.0, 30.0])
def test_torch_agrees(size):
    torch = pytest.importorskip("torch")
    f = torch.nn.functional
    s, t = pair(5, 33, size=size)
    theirs = {
        "mse": f.mse_loss,
        "normalized_mse": lambda a, b: (f.mse_loss(a, b, reduction="none").sum(-1) / b.square().sum(-1)).mean(),
        "cosine": lambda a, b: (1 - f.cosine_similarity(a, b)).mean(),
        "kl": lambda a, b: f.kl_div(a.log_softmax(-1), b.log_softmax(-1), reduction="batchmean", log_target=True),
        "kl_warm": lambda a, b: 6.25 * theirs["kl"](a / 2.5, b / 2.5),
    }
    for name, call in CALLS.items():
        leaf = torch.tensor(s, requires_grad=True)
        want = theirs[name](leaf, torch.tensor(t))
        want.backward()
        loss, gradient = call(s, t)
        np.testing.assert_allclose(loss, want.item(), rtol=1e-12, err_msg=name)
        np.testing.assert_allclose(gradient, leaf.grad.numpy(), rtol=1e-9, atol=1e-15, err_msg=name)


@every_loss
def test_the_teacher_itself_has_no_loss(name):
    for dtype in (np.float32, np.float64):
        x = pair(4, 21)[0].astype(dtype)
        loss, gradient = CALLS[name](x, x)
        assert loss == 0
        np.testing.assert_array_equal(gradient, 0)


def test_scales():
    s, t = pair(4, 9)
    np.testing.assert_allclose(losses.normalized_mse(8 * s, 8 * t)[0], losses.normalized_mse(s, t)[0], rtol=1e-14)
    np.testing.assert_allclose(losses.cosine(8 * s, 3 * t)[0], losses.cosine(s, t)[0], rtol=1e-14)
    np.testing.assert_allclose(losses.kl(s + 5, t - 3)[0], losses.kl(s, t)[0], rtol=1e-12)
    warm = np.linalg.norm(losses.kl(s, t, temperature=50.0)[1])  # temperature**2 keeps the gradient's size
    assert 0.2 < warm / np.linalg.norm(losses.kl(s, t)[1]) < 5


@every_loss
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_are_not_hidden(name, bad):
    for dtype in (np.float32, np.float64):
        for side in (0, 1):
            rows = pair(2, 35).astype(dtype)
            rows[side][0, 34] = bad
            loss, gradient = CALLS[name](*rows)
            assert not np.isfinite(loss)
            assert not np.isfinite(gradient[0]).all()
            assert np.isfinite(gradient[1]).all()


@every_loss
def test_views_equal_their_copies(name):
    s, t = pair(10, 12)
    for a, b in ((s.T, t.T), (s[::2, ::-1], t[1::2, ::-1])):
        loss, gradient = CALLS[name](a, b)
        want, exact = CALLS[name](a.copy(), b.copy())
        assert loss == want
        np.testing.assert_array_equal(gradient, exact)


@every_loss
def test_refusals(name):
    call, function = CALLS[name], name.removesuffix("_warm")
    s, t = pair(3, 4)
    with pytest.raises(ValueError, match=rf"{function}: teacher must have shape \(3, 4\), got \(3, 3\)"):
        call(s, t[:, :3])
    with pytest.raises(ValueError, match=rf"{function}: student must have at least one element on its last axis"):
        call(s[:, :0], t[:, :0])
    with pytest.raises(TypeError, match=f"{function}: teacher must be a numpy array of dtype float64"):
        call(s, t.astype(np.float32))
    for bad in (s.astype(int), s.astype(np.float16), [1.0], None):
        with pytest.raises(TypeError, match=f"{function}: student must be a numpy array of dtype float32 or float64"):
            call(bad, t)
