"""matmul: exact on integers at every kind of shape (so kernels::gemm too), within its error bound, checked by
differences, deaf to thread count."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from sweeps import THREADS

from loopos import ops
from loopos.gradients.gradcheck import GradcheckError, gradcheck


def whole_numbers(rng, shape, dtype):
    """Small enough that every partial sum is exact in float32: any order of addition must give the very same
    product."""
    return rng.integers(-9, 10, shape).astype(dtype)


def product_is_exact(m, k, n, dtype, rng):
    a, b, dc = (whole_numbers(rng, s, dtype) for s in ((m, k), (k, n), (m, n)))
    wide_a, wide_b, wide_dc = (x.astype(np.int64) for x in (a, b, dc))
    np.testing.assert_array_equal(ops.matmul(a, b), wide_a @ wide_b)
    da, db = ops.matmul_backward(dc, a, b)
    np.testing.assert_array_equal(da, wide_dc @ wide_b.T)
    np.testing.assert_array_equal(db, wide_a.T @ wide_dc)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_whole_numbers_are_exact_at_every_small_shape(dtype):
    rng = np.random.default_rng(0)
    sizes = [1, 2, 5, 6, 7, 11, 12, 13, 16, 17, 31, 32, 33, 65]
    for m in sizes:
        for n in sizes:
            product_is_exact(m, int(rng.choice(sizes)), n, dtype, rng)


# One beyond and around: depth of a block (512), its rows (192), panels of a task, and the limits up to which operands
# are read where they lie (65,536 numbers of B, 262,144 of A).
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "shape",
    [
        (3, 256, 5),
        (3, 257, 5),
        (13, 511, 33),
        (7, 513, 130),
        (239, 31, 40),
        (241, 70, 33),
        (500, 300, 65),
        (125, 64, 1030),
        (1, 900, 700),
        (191, 40, 129),
        (193, 256, 256),
        (193, 257, 256),
        (513, 512, 128),
        (512, 512, 129),
    ],
    ids=str,
)
def test_whole_numbers_are_exact_across_the_block_limits(shape, dtype):
    product_is_exact(*shape, dtype, np.random.default_rng(1))


def test_whole_numbers_are_exact_across_slices_of_columns():
    """Packed B is cut into slices of 16 MB: 4,200,000 numbers need two."""
    rng = np.random.default_rng(2)
    a, b = whole_numbers(rng, (1, 70000), np.float32), whole_numbers(rng, (70000, 67), np.float32)
    np.testing.assert_array_equal(ops.matmul(a, b), a.astype(np.float64) @ b.astype(np.float64))
    m, k, n = 3, 300, 14011
    a, b, dc = (whole_numbers(rng, s, np.float32) for s in ((m, k), (k, n), (m, n)))
    wide_a, wide_b, wide_dc = (x.astype(np.float64) for x in (a, b, dc))
    np.testing.assert_array_equal(ops.matmul(a, b), wide_a @ wide_b)
    da, db = ops.matmul_backward(dc, a, b)
    np.testing.assert_array_equal(da, wide_dc @ wide_b.T)
    np.testing.assert_array_equal(db, wide_a.T @ wide_dc)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("lead", [(), (1,), (5,), (2, 3), (70,), (0,), (3, 0)], ids=str)
@pytest.mark.parametrize("core", [(4, 3, 5), (1, 1, 1), (0, 3, 5), (4, 0, 5), (4, 3, 0), (9, 40, 17)], ids=str)
def test_batches_shared_b_and_empty_axes(lead, core, dtype):
    m, k, n = core
    rng = np.random.default_rng(3)
    a, dc = whole_numbers(rng, (*lead, m, k), dtype), whole_numbers(rng, (*lead, m, n), dtype)
    for b in (whole_numbers(rng, (*lead, k, n), dtype), whole_numbers(rng, (k, n), dtype)):
        c = ops.matmul(a, b)
        assert c.shape == (*lead, m, n)
        assert c.dtype == dtype
        np.testing.assert_array_equal(c, a @ b)
        da, db = ops.matmul_backward(dc, a, b)
        assert (da.shape, db.shape) == (a.shape, b.shape)
        np.testing.assert_array_equal(da, dc @ np.swapaxes(b, -1, -2))
        full = np.swapaxes(a, -1, -2) @ dc
        np.testing.assert_array_equal(db, full if b.ndim == full.ndim else full.sum(tuple(range(len(lead)))))


def test_large_batch_products_go_the_parallel_way():
    rng = np.random.default_rng(4)
    a, b = whole_numbers(rng, (2, 300, 256), np.float32), whole_numbers(rng, (2, 256, 240), np.float32)
    np.testing.assert_array_equal(ops.matmul(a, b), a.astype(np.float64) @ b)


@pytest.mark.parametrize("k", [1, 64, 3072])
def test_float_error_is_within_the_bound(k):
    rng = np.random.default_rng(k)
    a, b = (rng.standard_normal(s).astype(np.float32) for s in ((33, k), (k, 47)))
    exact = a.astype(np.float64) @ b.astype(np.float64)
    bound = 16 * 2.0**-24 * (np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64))
    assert (np.abs(ops.matmul(a, b) - exact) <= bound).all()


def test_gradients_by_differences_and_a_planted_error():
    rng = np.random.default_rng(5)
    for a, b in [((2, 3, 4), (2, 4, 5)), ((2, 3, 4), (4, 5)), ((7, 2), (2, 3))]:
        inputs = (rng.standard_normal(a), rng.standard_normal(b))
        gradcheck((ops.matmul, ops.matmul_backward), inputs)
        for which in (0, 1):

            def wrong(dc, a, b, which=which):
                grads = list(ops.matmul_backward(dc, a, b))
                grads[which] = grads[which] * 1.001
                return tuple(grads)

            with pytest.raises(GradcheckError):
                gradcheck((ops.matmul, wrong), inputs)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bits_do_not_depend_on_threads(dtype, thread_count):
    rng = np.random.default_rng(6)
    cases = [
        ((301, 259), (259, 131)),
        ((200, 600), (600, 900)),  # tasks pack their part of the right operand; what is left over is cut by rows or not
        ((9, 41, 33), (9, 33, 29)),
        ((6, 130, 70), (70, 65)),
    ]
    inputs = [(rng.standard_normal(a).astype(dtype), rng.standard_normal(b).astype(dtype)) for a, b in cases]
    first = None
    for threads in (1, *THREADS):
        thread_count(threads)
        results = []
        for a, b in inputs:
            c = ops.matmul(a, b)
            results += [c, *ops.matmul_backward(c, a, b)]
        first = first or results
        for one, other in zip(first, results, strict=True):
            assert one.tobytes() == other.tobytes()


def test_bits_do_not_depend_on_where_operands_are_read():
    """Each is read where it lies when that is near enough, else packed: of a larger product whose operands are
    packed, the part must have the bits of the small one."""
    rng = np.random.default_rng(4)
    a, b, dc = (rng.standard_normal(s, np.float32) for s in ((300, 250), (250, 1024), (300, 1024)))
    whole = ops.matmul(a, b)
    dwhole = ops.matmul_backward(dc, a, b)[1]
    for columns in (32, 64, 128, 250):
        part = np.ascontiguousarray(b[:, :columns])
        np.testing.assert_array_equal(ops.matmul(a, part), whole[:, :columns])
        dpart = ops.matmul_backward(np.ascontiguousarray(dc[:, :columns]), a, part)[1]
        np.testing.assert_array_equal(dpart, dwhole[:, :columns])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="protects a page with mprotect of the C library")
@pytest.mark.parametrize(("m", "k", "n"), [(13, 37, 65), (6, 64, 64), (7, 63, 48), (70, 130, 33), (200, 515, 130)])
def test_nothing_is_read_behind_an_operand(m, k, n):
    """The kernels' inner loops are instructions, which no sanitizer looks into. So the operands end where a page
    begins that must not be touched; in a process of its own, which a fault would end."""
    subprocess.run([sys.executable, "-c", BEHIND, str(m), str(k), str(n)], check=True)


BEHIND = """
import ctypes, mmap, sys
import numpy as np
from loopos import ops

libc = ctypes.CDLL(None, use_errno=True)

def at_the_edge(x):
    pages = -(-x.nbytes // mmap.PAGESIZE)
    memory = mmap.mmap(-1, (pages + 1) * mmap.PAGESIZE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    forbidden = ctypes.c_void_p(start + pages * mmap.PAGESIZE)
    assert libc.mprotect(forbidden, ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
    edge = np.frombuffer(memory, x.dtype, x.size, pages * mmap.PAGESIZE - x.nbytes).reshape(x.shape)
    edge[...] = x
    return edge

m, k, n = map(int, sys.argv[1:])
rng = np.random.default_rng(0)
a, b, dc = (at_the_edge(rng.standard_normal(s, np.float32)) for s in ((m, k), (k, n), (m, n)))
w = at_the_edge(rng.standard_normal((n, k), np.float32))
ops.matmul(a, b)
ops.matmul_backward(dc, a, b)
ops.linear(a, w, None)
ops.linear_backward(dc, a, w, False)
"""


def test_extremes_are_computed_as_they_are():
    big = np.array([[3e38, 1.0]], np.float32)
    assert ops.matmul(big, np.array([[1.0], [1e4]], np.float32))[0, 0] == np.float32(3e38)
    assert np.isinf(ops.matmul(big, np.array([[2.0], [0.0]], np.float32))[0, 0])
    for shape in [(1, 1), (7, 300), (30, 5)]:
        a = np.ones(shape, np.float32)
        a[-1, -1] = np.nan
        c = ops.matmul(a, np.zeros((shape[1], 9), np.float32))
        assert np.isnan(c[-1]).all()
        assert (c[:-1] == 0).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_views_give_the_result_of_their_copies_and_inputs_stay(dtype):
    rng = np.random.default_rng(7)
    a, b = rng.standard_normal((10, 12)).astype(dtype), rng.standard_normal((14, 12)).astype(dtype)
    before = a.tobytes(), b.tobytes()
    views = [(a[::2, ::3], b.T[::3]), (a[::-1], b.T), (np.asfortranarray(a), b.T[:, ::-2])]
    for x, y in views:
        assert ops.matmul(x, y).tobytes() == ops.matmul(x.copy(), y.copy()).tobytes()
    assert before == (a.tobytes(), b.tobytes())


def test_refusals():
    f32, f64 = np.zeros((2, 3), np.float32), np.zeros((3, 4))
    for bad in (
        np.zeros((2, 3), int),
        np.zeros((2, 3), bool),
        [[1.0]],
        None,
        np.zeros((2, 3), np.float16),
        np.zeros((2, 3), ">f4"),
    ):
        with pytest.raises(TypeError, match="matmul: a must be"):
            ops.matmul(bad, np.zeros((3, 4), np.float32))
    with pytest.raises(TypeError, match=r"matmul: b .*float32"):
        ops.matmul(f32, f64)
    for a, b in [
        ((3,), (3, 2)),
        ((2, 3), (3,)),
        ((2, 3), (4, 2)),
        ((2, 2, 3), (3, 3, 2)),
        ((2, 3), (1, 3, 2)),
        ((), ()),
    ]:
        with pytest.raises(ValueError, match="matmul: "):
            ops.matmul(np.zeros(a), np.zeros(b))
    with pytest.raises(ValueError, match=r"matmul_backward: dc must have shape \(2, 4\), got \(2, 3\)"):
        ops.matmul_backward(np.zeros((2, 3)), np.zeros((2, 3)), np.zeros((3, 4)))
    with pytest.raises(MemoryError):
        ops.matmul(np.zeros((2**40, 0), np.float32), np.zeros((0, 2**40), np.float32))


@pytest.mark.reference
def test_parity_with_torch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(8)
    a, b, dc = (rng.standard_normal(s) for s in ((3, 20, 30), (3, 30, 10), (3, 20, 10)))
    ta, tb = (torch.tensor(x, requires_grad=True) for x in (a, b))
    tc = ta @ tb
    tc.backward(torch.tensor(dc))
    da, db = ops.matmul_backward(dc, a, b)
    for ours, theirs in ((ops.matmul(a, b), tc.detach()), (da, ta.grad), (db, tb.grad)):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-12, atol=1e-13)
