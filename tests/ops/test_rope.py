"""rope: formula, rotation properties, differences, positions of any size, refusals, thread count."""

from __future__ import annotations

import numpy as np
import pytest

from loopos import ops
from loopos.gradients.gradcheck import GradcheckError, gradcheck


def reference(x, positions, theta=10000.0, interleaved=False, sign=1):
    x = x.astype(np.float64)
    half = x.shape[-1] // 2
    angle = sign * positions[:, None] * theta ** (-2.0 * np.arange(half) / max(1, x.shape[-1]))
    c, s = np.cos(angle), np.sin(angle)
    first, second = (np.s_[..., 0::2], np.s_[..., 1::2]) if interleaved else (np.s_[..., :half], np.s_[..., half:])
    y = np.empty_like(x)
    y[first] = x[first] * c - x[second] * s
    y[second] = x[second] * c + x[first] * s
    return y


@pytest.mark.parametrize(
    "shape",
    [(1, 1, 1, 2), (2, 3, 5, 8), (1, 2, 70, 34), (2, 0, 3, 4), (0, 1, 3, 4), (2, 2, 0, 4), (1, 1, 3, 0)],
    ids=str,
)
@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-13), (np.float32, 3e-7)])
@pytest.mark.parametrize("id_type", [np.int32, np.int64])
def test_both_passes_are_the_formula(shape, interleaved, dtype, tolerance, id_type):
    rng = np.random.default_rng(0)
    x, positions = rng.standard_normal(shape).astype(dtype), rng.integers(-9, 200, shape[2]).astype(id_type)
    for theta in (10000.0, 500000.0, 2.5):
        options = {"theta": theta, "interleaved": interleaved}
        for ours, sign in ((ops.rope(x, positions, **options), 1), (ops.rope_backward(x, positions, **options), -1)):
            assert ours.dtype == dtype
            want = reference(x, positions, theta, interleaved, sign)
            np.testing.assert_allclose(ours, want, rtol=tolerance, atol=4 * tolerance)


def test_gradients_by_differences_and_a_planted_error():
    x, positions = np.random.default_rng(1).standard_normal((2, 2, 3, 6)), np.array([0, 5, -2])
    for interleaved in (False, True):

        def forward(x, interleaved=interleaved):
            return ops.rope(x, positions, interleaved=interleaved)

        def backward(dy, x, factor=1.0, interleaved=interleaved):
            return ops.rope_backward(dy, positions, interleaved=interleaved) * factor

        gradcheck((forward, backward), x)
        with pytest.raises(GradcheckError):
            gradcheck((forward, lambda dy, x, backward=backward: backward(dy, x, 1.001)), x)


def test_it_turns_and_depends_on_distance_alone():
    q, k = np.random.default_rng(2).standard_normal((2, 1, 1, 1, 16))
    near = [(ops.rope(q, np.array([p])) * ops.rope(k, np.array([p + 3]))).sum() for p in (0, 7, 1000)]
    np.testing.assert_allclose(near, near[0], rtol=1e-10)
    np.testing.assert_allclose(np.linalg.norm(ops.rope(q, np.array([17]))), np.linalg.norm(q), rtol=1e-14)


def test_calls_with_other_positions_theta_and_width_do_not_mix():
    """The table of angles is kept between calls: anything that changes it must be seen."""
    rng = np.random.default_rng(3)
    for positions, theta, width in [
        ([0, 1], 1e4, 8),
        ([0, 2], 1e4, 8),
        ([0, 2], 1e3, 8),
        ([0, 2], 1e3, 4),
        ([0, 2, 5], 1e3, 4),
        ([0, 2], 1e3, 4),
    ]:
        x, positions = rng.standard_normal((1, 2, len(positions), width)), np.array(positions)
        np.testing.assert_allclose(
            ops.rope(x, positions, theta=theta), reference(x, positions, theta), rtol=1e-13, atol=1e-13
        )
        single = x.astype(np.float32)
        np.testing.assert_allclose(
            ops.rope(single, positions, theta=theta), reference(single, positions, theta), rtol=3e-7, atol=1e-6
        )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extremes(dtype):
    x = np.ones((1, 1, 5, 8), dtype)
    positions = np.array([0, -1, 2**40, 2**63 - 1, -(2**63)])
    y = ops.rope(x, positions)
    assert np.isfinite(y).all()
    np.testing.assert_allclose(np.linalg.norm(y, axis=-1), np.sqrt(8), rtol=4e-7)
    assert y[0, 0, 0].tobytes() == x[0, 0, 0].tobytes()
    x[0, 0, 2, 1] = np.nan
    y = ops.rope(x, np.zeros(5, np.int64))
    assert np.isnan(y[0, 0, 2, [1, 5]]).all()
    assert np.isnan(y).sum() == 2
    assert np.isfinite(ops.rope(np.full((1, 1, 1, 2), 2e38, np.float32), np.array([1]))).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bits_do_not_depend_on_threads(dtype, thread_count):
    rng = np.random.default_rng(4)
    cases = [rng.standard_normal(s).astype(dtype) for s in ((2, 3, 129, 34), (1, 1, 1, 2), (5, 7, 63, 64))]
    first = None
    for threads in (1, 2, 3, 5, 8):
        thread_count(threads)
        results = [
            ops.rope(x, np.arange(x.shape[2]) + threads * 0, interleaved=i) for x in cases for i in (False, True)
        ]
        first = first or results
        for one, other in zip(first, results, strict=True):
            assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("op", [ops.rope, ops.rope_backward])
def test_positions_of_each_sequence(op, dtype, check_threads):
    x = np.random.default_rng(4).standard_normal((3, 2, 70, 8)).astype(dtype)
    positions = np.array([[*range(70)], [*range(30), *range(40)], [0] * 70])
    alone = [op(x[b : b + 1], positions[b]) for b in range(3)]
    np.testing.assert_array_equal(op(x, positions), np.concatenate(alone))
    np.testing.assert_array_equal(op(x, np.stack([positions[0]] * 3)), op(x, positions[0]))
    check_threads(lambda: (op(x, positions),))


def test_refusals():
    x, positions = np.zeros((1, 2, 3, 4)), np.arange(3)
    for theta in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="rope: theta"):
            ops.rope(x, positions, theta=theta)
    with pytest.raises(ValueError, match="rope: the head width D must be even, got 3"):
        ops.rope(x[..., :3], positions)
    with pytest.raises(
        ValueError, match=r"rope: positions must have shape \(T,\) = \(3,\) or \(B, T\) = \(1, 3\), got \(2,\)"
    ):
        ops.rope(x, positions[:2])
    with pytest.raises(ValueError, match="rope: positions"):
        ops.rope(x, np.stack([positions, positions]))
    with pytest.raises(ValueError, match="rope: x must have 4 axes"):
        ops.rope(x[0], positions)
    with pytest.raises(TypeError, match="rope: positions"):
        ops.rope(x, positions.astype(float))
    with pytest.raises(TypeError, match="rope_backward: dy"):
        ops.rope_backward(x.astype(int), positions)


@pytest.mark.reference
def test_parity_with_the_llama_of_transformers():
    torch = pytest.importorskip("torch")
    llama = pytest.importorskip("transformers.models.llama.modeling_llama")
    x = np.random.default_rng(5).standard_normal((2, 3, 7, 8))
    angle = np.arange(7)[:, None] * 10000.0 ** (-np.arange(0, 8, 2) / 8)
    angle = torch.tensor(np.concatenate([angle, angle], -1))[None]
    tx = torch.tensor(x, requires_grad=True)
    ty, _ = llama.apply_rotary_pos_emb(tx, tx, angle.cos(), angle.sin())
    ty.backward(torch.tensor(x))
    np.testing.assert_allclose(ops.rope(x, np.arange(7)), ty.detach().numpy(), rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(ops.rope_backward(x, np.arange(7)), tx.grad.numpy(), rtol=1e-13, atol=1e-14)
