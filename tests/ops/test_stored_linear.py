"""Weights that are stored small: what storing does to numbers, and products with them, bit by bit those of ops.linear
on the numbers that were stored.

The instruction set is chosen once per process: `python test_stored_linear.py` prints digests of one, which must be the
same for products and must agree with numpy.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import loopos
from loopos import ops

KINDS = ("bfloat16", "int8")
SHAPES = [(1, 1), (3, 5), (32, 32), (33, 31), (64, 100), (96, 576), (70, 1030), (577, 40), (200, 64)]
ROWS = (1, 2, 3, 7, 8, 9, 50)


def drawn(*shape, seed=0, scale=1.0):
    return (scale * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def expected_int8(weight):
    """The formula of the docstring of ops.store, in numpy."""
    out, ins = weight.shape
    blocks = np.zeros((out, -(-ins // 32), 32), np.float32)
    blocks.reshape(out, -1)[:, :ins] = weight
    largest = np.abs(blocks).max(-1, keepdims=True)
    scale = (largest / np.float32(127)).astype(np.float16)
    cut = largest > np.float32(127.5) * scale.astype(np.float32)  # of the smallest scales, whose steps are coarse
    scale = np.where(cut, np.nextafter(scale, np.float16(1)), scale)
    q = np.rint(np.divide(blocks, scale.astype(np.float32), where=scale > 0, out=np.zeros_like(blocks)))
    assert np.abs(q).max() <= 127
    return (q * scale.astype(np.float32)).reshape(out, -1)[:, :ins].astype(np.float32)


def expected_bfloat16(weight):
    bits = weight.view(np.uint32).astype(np.uint64)
    bits = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16 << 16
    return bits.astype(np.uint32).view(np.float32)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 300.0])
def test_stored_numbers_follow_the_formula(shape, scale):
    weight = drawn(*shape, scale=scale)
    for kind, want in (("bfloat16", expected_bfloat16), ("int8", expected_int8)):
        stored = ops.store(weight, kind)
        assert (stored.storage, stored.shape) == (kind, shape)
        np.testing.assert_array_equal(stored.numpy(), want(weight))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("rows", ROWS)
def test_products_have_the_bits_of_linear(kind, shape, rows):
    outs, ins = shape
    weight = ops.store(drawn(outs, ins), kind)
    x, bias, dy = drawn(rows, ins, seed=1), drawn(outs, seed=2), drawn(rows, outs, seed=3)
    plain = weight.numpy()
    assert ops.stored_linear(x, weight).tobytes() == ops.linear(x, plain).tobytes()
    assert ops.stored_linear(x, weight, bias).tobytes() == ops.linear(x, plain, bias).tobytes()
    dx = ops.stored_linear_backward(dy, weight)
    assert dx.tobytes() == ops.linear_backward(dy, x, plain)[0].tobytes()
    np.testing.assert_allclose(dx, dy.astype(np.float64) @ plain, rtol=0, atol=2e-6 * outs**0.5 * np.abs(plain).max())


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_does_not_know_its_neighbours(kind):
    weight, x = ops.store(drawn(300, 1100), kind), drawn(40, 1100, seed=1)
    whole = ops.stored_linear(x, weight)
    for rows in (1, 2, 5, 8, 13):
        assert ops.stored_linear(x[7 : 7 + rows], weight).tobytes() == whole[7 : 7 + rows].tobytes()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [1, 4, 70])
def test_the_same_bits_for_every_number_of_threads(kind, rows, check_threads):
    weight = ops.store(drawn(1500, 600), kind)
    x, dy = drawn(rows, 600, seed=1), drawn(rows, 1500, seed=2)
    check_threads(lambda: (ops.stored_linear(x, weight), ops.stored_linear_backward(dy, weight)))
    check_threads(lambda: (ops.store(drawn(1500, 600), kind).numpy(),))


@pytest.mark.parametrize("kind", KINDS)
def test_dx_is_the_slope(kind):
    """Central differences. The product is linear in x, so a step of 1/4 has no error of its own; whole numbers leave no
    rounding."""
    rng = np.random.default_rng(0)
    weight = ops.store(rng.integers(-127, 128, (40, 9)).astype(np.float32), kind)
    x, dy = (rng.integers(-4, 5, shape).astype(np.float32) for shape in ((3, 9), (3, 40)))
    want = np.empty(x.shape)
    for at in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[at] += 0.25
        down[at] -= 0.25
        y = [ops.stored_linear(v, weight).astype(np.float64) for v in (up, down)]
        want[at] = np.sum(dy * (y[0] - y[1])) / 0.5
    got = ops.stored_linear_backward(dy, weight).astype(np.float64)
    assert np.any(got != 0)

    def error(dx):
        return np.linalg.norm(dx - want) / np.linalg.norm(want)

    assert error(got) < 1e-6
    assert error(got * 1.001) > 1e-6  # a planted error of 0.1 %


def test_what_int8_can_hold_is_held():
    """Whole numbers whose largest is 127 times a power of two; and what was stored once keeps its bits."""
    rng = np.random.default_rng(0)
    weight = rng.integers(-127, 128, (64, 96)).astype(np.float32)
    weight[:, ::32] = 127
    for power in (-14, -3, 0, 5):
        scaled = weight * np.float32(2.0**power)
        assert ops.store(scaled, "int8").numpy().tobytes() == scaled.tobytes()
    for kind in KINDS:
        once = ops.store(drawn(64, 96, scale=0.02), kind).numpy()
        assert ops.store(once, kind).numpy().tobytes() == once.tobytes()


@pytest.mark.parametrize("largest", [1e-40, 3e-8, 1e-6, 1e-5, 3e-4, 8e6])
def test_a_scale_that_float16_barely_holds_cuts_nothing(largest):
    weight = drawn(5, 64)
    weight *= np.float32(largest) / np.abs(weight).max()
    stored = ops.store(weight, "int8").numpy()
    step = max(largest / 127, 2.0**-24)  # of float16's smallest numbers
    assert np.abs(stored - weight).max() <= 0.5 * max(step * 1.001, 2.0**-24 + step)


@pytest.mark.parametrize("rows", [0, 1, 9])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_and_one(kind, rows):
    for outs, ins in ((0, 4), (4, 0), (1, 1)):
        weight = ops.store(np.full((outs, ins), 127, np.float32), kind)
        np.testing.assert_array_equal(weight.numpy(), np.full((outs, ins), 127))
        y = ops.stored_linear(np.ones((rows, ins), np.float32), weight)
        np.testing.assert_array_equal(y, np.full((rows, outs), 127 * ins))
        dx = ops.stored_linear_backward(np.ones((rows, outs), np.float32), weight)
        np.testing.assert_array_equal(dx, np.full((rows, ins), 127 * outs))


@pytest.mark.parametrize("rows", [1, 12])
@pytest.mark.parametrize("kind", KINDS)
def test_large_and_bad_numbers_come_through(kind, rows):
    weight = ops.store(drawn(40, 64), kind)
    plain = weight.numpy()
    for value in (1e4, -3e38, np.nan, np.inf):
        x = drawn(rows, 64, seed=1)
        x[0, 3] = value
        with np.errstate(all="ignore"):
            got, want = ops.stored_linear(x, weight), ops.linear(x, plain)
        np.testing.assert_array_equal(got, want)
        assert np.isfinite(got[1:]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_stored_is_named(kind):
    for value in (np.nan, np.inf, -np.inf, 3.4028235e38):
        weight = drawn(70, 40)
        weight[33, 35] = value
        weight[50, 0] = np.nan
        with pytest.raises(ValueError, match=r"weight\[33, 35\] is .* cannot be stored as " + kind):
            ops.store(weight, kind)
    with pytest.raises(ValueError, match="must be 'bfloat16' or 'int8', got 'int3'"):
        ops.store(drawn(2, 2), "int3")
    with pytest.raises(TypeError, match="float32"):
        ops.store(np.ones((2, 2)), kind)
    weight = ops.store(drawn(3, 4), kind)
    with pytest.raises(ValueError, match="the last axis of x must be 4"):
        ops.stored_linear(drawn(2, 3), weight)
    with pytest.raises(ValueError, match="the last axis of dy must be 3"):
        ops.stored_linear_backward(drawn(2, 4), weight)
    with pytest.raises(ValueError, match="bias"):
        ops.stored_linear(drawn(2, 4), weight, drawn(4))


def test_bytes_of_a_weight():
    weight = drawn(64, 96)
    assert ops.store(weight, "bfloat16").nbytes == 2 * 64 * 96
    assert ops.store(weight, "int8").nbytes == 64 * (96 + 2 * 3)


def figures():
    """Errors over input scales 2^0 to 2^9 against float64, relative, and whether the bits are those of linear."""
    worst, same = 0.0, True
    for kind in KINDS:
        for outs, ins in ((70, 300), (33, 65), (130, 1100)):
            weight = ops.store(drawn(outs, ins), kind)
            plain = weight.numpy()
            for power in range(10):
                for rows in (1, 2, 3, 8, 30):
                    x, dy = drawn(rows, ins, seed=power, scale=2.0**power), drawn(rows, outs, seed=power)
                    y, dx = ops.stored_linear(x, weight), ops.stored_linear_backward(dy, weight)
                    same = same and y.tobytes() == ops.linear(x, plain).tobytes()
                    for got, want in ((y, x.astype(np.float64) @ plain.T), (dx, dy.astype(np.float64) @ plain)):
                        worst = max(worst, np.linalg.norm(got - want) / np.linalg.norm(want))
    return {"isa": loopos._core.isa(), "worst": float(worst), "same": same}


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
def test_float_against_double_on_every_instruction_set(isa):
    env = {**os.environ, "LOOPOS_ISA": isa, "PYTHONPATH": str(Path(loopos.__file__).parents[1])}
    done = subprocess.run([sys.executable, __file__], env=env, capture_output=True, text=True, timeout=300)
    if done.returncode and "does not have it" in done.stderr:
        pytest.skip(f"this machine or build has no {isa}")
    assert done.returncode == 0, done.stderr
    got = json.loads(done.stdout)
    assert got["isa"] == isa
    assert got["same"]
    assert got["worst"] < 5e-7  # what ops.linear needs on such shapes


if __name__ == "__main__":
    print(json.dumps(figures()))
