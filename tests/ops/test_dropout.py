"""dropout: the mask is Philox's, forward and backward share it, it depends on nothing but seed and position."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopos import ops


def philox(key, counter):
    """Philox4x32-10 by its definition (Salmon et al., 2011), in Python integers."""
    low = 0xFFFFFFFF
    k0, k1 = key & low, key >> 32
    c0, c1, c2, c3 = counter & low, counter >> 32, 0, 0
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & low, (p0 >> 32) ^ c3 ^ k1, p0 & low
        k0, k1 = (k0 + 0x9E3779B9) & low, (k1 + 0xBB67AE85) & low
    return c0, c1, c2, c3


def mask(n, p, seed, offset):
    words = [philox(seed, (offset + i) // 4)[(offset + i) % 4] for i in range(n)]
    return np.array(words, np.float64) >= p * 2**32


def test_the_reference_generator_knows_its_answers():
    """Known answers of the Random123 distribution (key and counter zero)."""
    assert philox(0, 0) == (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)


@settings(max_examples=40)
@given(
    n=st.integers(0, 200),
    p=st.one_of(st.sampled_from([0.0, 1e-12, 0.5, 1 - 2**-53]), st.floats(0, 1, exclude_max=True)),
    seed=st.integers(0, 2**64 - 1),
    offset=st.one_of(st.integers(0, 9), st.integers(2**34 - 9, 2**34 + 9), st.integers(0, 2**64 - 300)),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_forward_and_backward_are_the_formula(n, p, seed, offset, dtype):
    x = np.random.default_rng(n).standard_normal(n).astype(dtype)
    want = x * (mask(n, p, seed, offset) * dtype(1 / (1 - p))).astype(dtype)
    y = ops.dropout(x, p, seed=seed, offset=offset)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, want)
    np.testing.assert_array_equal(ops.dropout_backward(x, p, seed=seed, offset=offset), want)


def test_backward_is_the_derivative(check_gradient):
    x = np.random.default_rng(0).standard_normal((5, 9))
    check_gradient(
        lambda x: ops.dropout(x, 0.4, seed=7, offset=3),
        lambda dy, _: ops.dropout_backward(dy, 0.4, seed=7, offset=3),
        x,
    )


def test_float_agrees_with_double_and_masks_with_each_other(measured):
    assert measured["scales"]["dropout"] < 2e-7
    assert measured["masks"] == "e039944f3dd114037f8490fb441fa5a2f00f7183fb6fe8cfccbc32f4999c0e49"


def test_the_share_that_is_dropped():
    x = np.ones(200_000, np.float32)
    for p in (0.1, 0.5, 0.9):
        y = ops.dropout(x, p, seed=1)
        assert abs(np.mean(y == 0) - p) < 5 * np.sqrt(p * (1 - p) / x.size)
        np.testing.assert_allclose(y[y != 0], 1 / (1 - p), rtol=1e-7)
    assert np.any(ops.dropout(x, 0.5, seed=1) != ops.dropout(x, 0.5, seed=2))
    np.testing.assert_array_equal(ops.dropout(x, 0.0, seed=1), x)


@settings(max_examples=30)
@given(cut=st.integers(0, 500), offset=st.integers(0, 7))
def test_pieces_make_the_whole(cut, offset):
    x = np.ones(500, np.float32)
    whole = ops.dropout(x, 0.3, seed=5, offset=offset)
    parts = ops.dropout(x[:cut], 0.3, seed=5, offset=offset), ops.dropout(x[cut:], 0.3, seed=5, offset=offset + cut)
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_nan_and_infinity_are_not_hidden():
    x = np.full(64, np.nan, np.float32)
    assert np.isnan(ops.dropout(x, 0.5, seed=0)).all()  # in a dropped place too
    assert not np.isfinite(ops.dropout(np.full(64, np.inf), 0.5, seed=0)).any()


def test_any_number_of_threads_gives_the_same_bits(check_threads):
    x = np.random.default_rng(0).standard_normal(100_003).astype(np.float32)
    check_threads(lambda: (ops.dropout(x, 0.2, seed=9), ops.dropout_backward(x, 0.2, seed=9, offset=1)))


def test_views_equal_their_copies_and_inputs_stay():
    x = np.random.default_rng(0).standard_normal((7, 6))
    before = x.copy()
    np.testing.assert_array_equal(ops.dropout(x.T, 0.5, seed=1), ops.dropout(x.T.copy(), 0.5, seed=1))
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("name", ["dropout", "dropout_backward"])
def test_refusals(name):
    f = getattr(ops, name)
    x = np.ones(3)
    for p in (-0.1, 1.0, 1.5, np.nan, np.inf):
        with pytest.raises(ValueError, match=f"{name}: p must be at least 0 and below 1, got"):
            f(x, p, seed=0)
    for seed in (-1, 2**64):
        with pytest.raises(ValueError, match=f"{name}: seed must be from 0 to"):
            f(x, 0.5, seed=seed)
    with pytest.raises(ValueError, match=f"{name}: offset must be from 0 to"):
        f(x, 0.5, seed=0, offset=-1)
    with pytest.raises(ValueError, match="must stay below"):
        f(x, 0.5, seed=0, offset=2**64 - 3)
    for bad in (0.5, True, None, np.ones(1, int)):
        with pytest.raises(TypeError, match=f"{name}: seed must be an int"):
            f(x, 0.5, seed=bad)
    f(x, 0.5, seed=np.int64(3), offset=np.int32(2))
    with pytest.raises(TypeError, match="must be a numpy array of dtype float32 or float64"):
        f(np.ones(3, int), 0.5, seed=0)
    with pytest.raises(TypeError):
        f(x, 0.5, 0)  # seed is given by name
