"""global_norm and clip_grad_norm_: the whole range of both dtypes, lists and dicts, arrays untouched on refusal,
thread count."""

from __future__ import annotations

import numpy as np
import pytest

from loopos import NonFiniteError, ops


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_is_the_norm_of_everything(dtype):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(s).astype(dtype) for s in ((3, 4), (), (0, 5), (20000,), (8192,), (2, 3, 5))]
    want = np.sqrt(sum((a.astype(np.float64) ** 2).sum() for a in arrays))
    named = {str(i): a for i, a in enumerate(arrays)}
    for given in (arrays, tuple(arrays), named, named.values()):
        got = ops.global_norm(given)
        assert isinstance(got, float)
        np.testing.assert_allclose(got, want, rtol=1e-14)


def test_nothing_is_zero():
    for empty in ([], {}, [np.zeros((0, 3))], [np.zeros(5, np.float32)]):
        assert ops.global_norm(empty) == 0.0
        assert ops.clip_grad_norm_(empty, 1.0) == 0.0


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (3e38, np.float32),
        (1e-45, np.float32),
        (1e300, np.float64),
        (1e-300, np.float64),
        (5e-324, np.float64),
        (1e308, np.float64),
    ],
)
def test_the_whole_range_of_both_dtypes(value, dtype):
    arrays = (
        [np.full(2, value, dtype), np.full((1, 2), -value, dtype)]
        if value < 1e308
        else [np.array([value, 0.5 * value], dtype)]
    )
    top = float(np.abs(arrays[0]).max())
    want = top * np.sqrt(sum(((a.astype(np.float64) / top) ** 2).sum() for a in arrays))
    np.testing.assert_allclose(ops.global_norm(arrays), want, rtol=1e-14)
    # Beside a normal number, nothing is lost or gained.
    np.testing.assert_allclose(
        ops.global_norm([np.array([3.0, 4.0], dtype), np.array([1e-30], dtype)]), 5.0, rtol=1e-15
    )


def test_nan_and_inf_show():
    for dtype in (np.float32, np.float64):
        assert np.isnan(ops.global_norm([np.array([1, np.nan], dtype)]))
        assert np.isposinf(ops.global_norm([np.array([1, -np.inf], dtype)]))
        assert np.isnan(ops.global_norm([np.array([np.inf], dtype), np.array([np.nan], dtype)]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bits_do_not_depend_on_threads(dtype, thread_count):
    rng = np.random.default_rng(1)
    arrays = [rng.standard_normal(n).astype(dtype) for n in (1, 7, 63, 64, 65, 100003, 0, 8193)]
    results = set()
    for threads in (1, 2, 3, 5, 8):
        thread_count(threads)
        clipped = [a.copy() for a in arrays]
        results.add((ops.clip_grad_norm_(clipped, 1.0), b"".join(a.tobytes() for a in clipped)))
    assert len(results) == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_clipping_scales_and_returns_the_norm_before(dtype):
    rng = np.random.default_rng(2)
    arrays = {"a": rng.standard_normal((30, 4)).astype(dtype), "b": rng.standard_normal(5).astype(dtype)}
    before = {k: v.copy() for k, v in arrays.items()}
    norm = ops.global_norm(arrays)
    assert ops.clip_grad_norm_(arrays, 0.5) == norm
    for name, array in arrays.items():
        np.testing.assert_allclose(array, before[name].astype(np.float64) * (0.5 / norm), rtol=np.finfo(dtype).eps)
    np.testing.assert_allclose(ops.global_norm(arrays), 0.5, rtol=1e-7)


def test_below_the_limit_every_bit_stays():
    a = np.array([3.0, -0.0, 4.0], np.float32)
    for limit in (5.0, 6.0, float("inf")):
        kept = a.copy()
        assert ops.clip_grad_norm_([kept], limit) == 5.0
        assert kept.tobytes() == a.tobytes()
    assert ops.clip_grad_norm_([a], np.nextafter(5.0, 0)) == 5.0


@pytest.mark.parametrize(("value", "dtype"), [(3e38, np.float32), (1.7e308, np.float64)])
def test_huge_finite_gradients_survive(value, dtype):
    """A million entries of 3e38: the factor is far below the smallest normal float; and a norm beyond double is no
    reason to zero."""
    a = np.full(1000000, value, dtype)
    norm = ops.clip_grad_norm_([a], 1.0)
    assert norm == (np.inf if dtype == np.float64 else pytest.approx(3e41, rel=1e-7))
    np.testing.assert_allclose(a, 1e-3, rtol=2e-7)


def test_views_with_gaps_are_clipped_in_place():
    base = np.full((6, 8), 2.0, np.float32)
    other = base.copy()
    view = base[::2, 1::3].T
    assert ops.clip_grad_norm_([view], 1.0) == pytest.approx(2 * np.sqrt(9))
    np.testing.assert_allclose(view, 1 / 3, rtol=2e-7)
    other[::2, 1::3] = view.T
    assert base.tobytes() == other.tobytes()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("named", [True, False])
def test_a_bad_entry_is_named_and_nothing_changes(bad, named):
    arrays = [np.full((2, 3), 1e30, np.float32), np.full((2, 3, 4), 1e30, np.float32).swapaxes(0, 1)]
    arrays[1][2, 1, 3] = bad
    before = [a.tobytes() for a in arrays]
    given = {"first": arrays[0], "h.0.w": arrays[1]} if named else arrays
    with pytest.raises(NonFiniteError) as caught:
        ops.clip_grad_norm_(given, 1.0)
    birth = caught.value.birth
    assert (birth.phase, birth.tensor, birth.index, birth.step) == (
        "backward",
        "h.0.w" if named else "1",
        (2, 1, 3),
        None,
    )
    assert str(birth.value) == str(bad)
    assert before == [a.tobytes() for a in arrays]


def test_refusals():
    a = np.ones(3)
    for limit in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="clip_grad_norm_: max_norm must be above 0"):
            ops.clip_grad_norm_([a], limit)
    for function in (ops.global_norm, lambda x: ops.clip_grad_norm_(x, 1.0)):
        for bad in (a, 3.0, None):
            with pytest.raises(TypeError, match="must be a list or a dict of arrays"):
                function(bad)
        for mixed in ([a, np.ones(3, np.float32)], [a, np.ones(3, int)], [[1.0]], {"x": np.ones(2, bool)}):
            with pytest.raises(TypeError, match=r"arrays\["):
                function(mixed)
    frozen = np.ones(3)
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match=r"arrays\[1\] must be writeable"):
        ops.clip_grad_norm_([a, frozen], 0.1)
    assert (a == 1).all()


@pytest.mark.reference
def test_parity_with_torch():
    torch = pytest.importorskip("torch")
    a = np.random.default_rng(3).standard_normal((40, 5))
    t = torch.nn.Parameter(torch.zeros(40, 5, dtype=torch.float64))
    t.grad = torch.tensor(a)
    norm = torch.nn.utils.clip_grad_norm_([t], 0.7)
    assert ops.clip_grad_norm_([a], 0.7) == pytest.approx(float(norm), rel=1e-14)
    np.testing.assert_allclose(a, t.grad.numpy(), rtol=2e-6)  # torch divides by norm + 1e-6


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_number_is_clipped_once(dtype):
    """Two arrays that share memory would be multiplied twice: refused by both names, with nothing changed."""
    g = np.full((4, 6), 10, dtype)
    shared = [
        [g, g],
        {"head": g, "embedding": g},
        [g, np.ones(3, dtype), g.T],
        [g[:3], g[2:]],
        [g.reshape(-1)[::-1], g[1:2, 3:4]],
        [g[:, ::2], g[:, 2]],
        [g.reshape(-1)[::2], g.reshape(-1)[::3]],
    ]
    for arrays in shared:
        names = list(arrays) if isinstance(arrays, dict) else ["0", str(len(arrays) - 1)]
        with pytest.raises(ValueError, match=rf"arrays\[{names[0]}\] and arrays\[{names[1]}\] share memory"):
            ops.clip_grad_norm_(arrays, 1.0)
        with pytest.raises(ValueError, match="share memory"):  # whether or not anything would be clipped
            ops.clip_grad_norm_(arrays, np.inf)
        assert (g == 10).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_views_that_share_no_number_are_sound(dtype):
    g = np.full((4, 6), 10, dtype)
    apart = [
        [g[:2], g[2:]],
        [g[:, ::2], g[:, 1::2]],
        [g.reshape(-1)[::-2], g.reshape(-1)[::2]],
        [g[:0], g, g[2:2]],
        {"a": g[:, :3].T, "b": g[:, 3:]},
    ]
    for arrays in apart:
        g[...] = 10
        assert ops.clip_grad_norm_(arrays, 1.0) == pytest.approx(10 * np.sqrt(24))
        np.testing.assert_allclose(g, 1 / np.sqrt(24), rtol=1e-6)


def test_the_norm_alone_counts_what_it_is_given():
    g = np.full(4, 10, np.float32)
    assert ops.global_norm([g, g]) == pytest.approx(10 * np.sqrt(8))
