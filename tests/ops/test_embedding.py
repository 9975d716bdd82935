"""embedding: lookup, its gradient over every distribution of ids, refusals with position and value, thread count."""

from __future__ import annotations

import numpy as np
import pytest

from loopos import ops
from loopos.gradients.gradcheck import GradcheckError, gradcheck


def scattered(dy, ids, vocab):
    total = np.zeros((vocab, dy.shape[-1]))
    np.add.at(total, ids.reshape(-1), dy.reshape(-1, dy.shape[-1]).astype(np.float64))
    return total


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("id_type", [np.int32, np.int64])
@pytest.mark.parametrize("shape", [(), (0,), (7,), (2, 3), (2, 0, 3)], ids=str)
def test_forward_is_a_lookup(shape, dtype, id_type):
    rng = np.random.default_rng(0)
    w, ids = rng.standard_normal((11, 6)).astype(dtype), rng.integers(0, 11, shape).astype(id_type)
    ids = np.asarray(ids)
    y = ops.embedding(ids, w)
    assert y.shape == (*shape, 6)
    assert y.tobytes() == w[ids].tobytes()


# Few ids with many rows, one id for all (runs over many pieces), every id once, ids of one, two and three bytes.
@pytest.mark.parametrize(
    ("vocab", "rows", "width"),
    [
        (1, 3000, 17),
        (2, 5000, 64),
        (5, 7, 3),
        (65, 768, 128),
        (300, 20000, 8),
        (50257, 300, 16),
        (70000, 5000, 7),
        (3, 9000, 40000 // 100),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gradient_of_whole_numbers_is_exact(vocab, rows, width, dtype):
    rng = np.random.default_rng(1)
    dy = rng.integers(-9, 10, (rows, width)).astype(dtype)
    for ids in (
        rng.integers(0, vocab, rows),
        np.full(rows, vocab - 1),
        np.arange(rows) % vocab,
        np.sort(rng.integers(0, vocab, rows)),
    ):
        np.testing.assert_array_equal(ops.embedding_backward(dy, ids, vocab), scattered(dy, ids, vocab))


def test_a_million_rows_of_one_id_are_summed_without_drift():
    dy = np.full((1_000_001, 1), 0.1, np.float32)
    dw = ops.embedding_backward(dy, np.zeros(1_000_001, np.int64), 1)
    np.testing.assert_allclose(dw, 1_000_001 * float(np.float32(0.1)), rtol=6e-8)


def test_gradients_by_differences_and_a_planted_error():
    rng = np.random.default_rng(2)
    ids, w = rng.integers(0, 4, (3, 5)), rng.standard_normal((4, 6))
    gradcheck((lambda w: ops.embedding(ids, w), lambda dy, w: ops.embedding_backward(dy, ids, 4)), w)
    with pytest.raises(GradcheckError):
        gradcheck((lambda w: ops.embedding(ids, w), lambda dy, w: ops.embedding_backward(dy, ids, 4) * 1.001), w)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bits_do_not_depend_on_threads(dtype, thread_count):
    rng = np.random.default_rng(3)
    cases = [
        (v, rng.integers(0, v, n), rng.standard_normal((n, c)).astype(dtype))
        for v, n, c in ((2, 3001, 65), (900, 1301, 33), (7, 40, 1000))
    ]
    first = None
    for threads in (1, 2, 3, 5, 8):
        thread_count(threads)
        results = []
        for vocab, ids, dy in cases:
            dw = ops.embedding_backward(dy, ids, vocab)
            results += [dw, ops.embedding(ids, dw)]
        first = first or results
        for one, other in zip(first, results, strict=True):
            assert one.tobytes() == other.tobytes()


def test_nan_reaches_its_own_row_alone():
    dy = np.ones((300, 20), np.float32)
    dy[7, 3] = np.nan
    dw = ops.embedding_backward(dy, np.arange(300) % 3, 3)
    assert np.isnan(dw[1, 3])
    assert np.isnan(dw).sum() == 1


def test_ids_out_of_range_are_named_with_their_position():
    w = np.zeros((5, 2))
    for bad in (-1, 5, 2**31, 2**63 - 1, -(2**63), -100):
        ids = np.array([[0, 4, bad]], np.int64)
        with pytest.raises(IndexError, match=rf"embedding: ids must be from 0 to 4, got {bad} at flat position 2"):
            ops.embedding(ids, w)
        with pytest.raises(IndexError, match=rf"embedding_backward: ids .* got {bad} at flat position 2"):
            ops.embedding_backward(np.zeros((1, 3, 2)), ids, 5)
    with pytest.raises(IndexError, match="got 0 at flat position 0"):
        ops.embedding(np.zeros(1, np.int64), np.zeros((0, 3)))
    assert ops.embedding(np.zeros(0, np.int64), np.zeros((0, 3))).shape == (0, 3)


def test_refusals():
    w, ids = np.zeros((5, 2)), np.zeros(3, np.int64)
    for bad in (ids.astype(float), ids.astype(bool), ids.astype(np.uint8), ids.astype(np.int16), [0, 1], 3):
        with pytest.raises(TypeError, match=r"embedding: ids must be .*int32 or int64"):
            ops.embedding(bad, w)
    with pytest.raises(TypeError, match="embedding: weight"):
        ops.embedding(ids, w.astype(int))
    with pytest.raises(ValueError, match="embedding: weight must have 2 axes"):
        ops.embedding(ids, np.zeros(5))
    with pytest.raises(ValueError, match=r"embedding_backward: dy must have shape ids.shape \+ \(C,\)"):
        ops.embedding_backward(np.zeros((4, 2)), ids, 5)
    with pytest.raises(ValueError, match="num_embeddings must not be negative, got -1"):
        ops.embedding_backward(np.zeros((0, 2)), ids[:0], -1)
    with pytest.raises(MemoryError):
        ops.embedding_backward(np.zeros((3, 2)), ids, 2**60)


@pytest.mark.reference
def test_parity_with_torch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(4)
    ids, w, dy = rng.integers(0, 30, (4, 9)), rng.standard_normal((30, 12)), rng.standard_normal((4, 9, 12))
    tw = torch.tensor(w, requires_grad=True)
    ty = torch.nn.functional.embedding(torch.tensor(ids), tw)
    ty.backward(torch.tensor(dy))
    np.testing.assert_array_equal(ops.embedding(ids, w), ty.detach().numpy())
    np.testing.assert_allclose(ops.embedding_backward(dy, ids, 30), tw.grad.numpy(), rtol=1e-13, atol=1e-14)
