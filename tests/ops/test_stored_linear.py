"""Weights that are stored small: what storing does to numbers, and products with them, bit by bit those of ops.linear
on the numbers that were stored.

The instruction set is chosen once per process: `python test_stored_linear.py` prints digests of one, which must be the
same for products and must agree with numpy.
"""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from statistics import NormalDist

import numpy as np
import pytest
from on_isa import environment
from sweeps import POWERS

import loopos
from loopos import ops

KINDS = ("bfloat16", "int8", "nf4", "int4-symmetric")
SHAPES = [(1, 1), (3, 5), (32, 32), (33, 31), (64, 100), (96, 576), (70, 1030), (577, 40), (200, 64)]
ROWS = (1, 2, 3, 7, 8, 9, 50)


def drawn(*shape, seed=0, scale=1.0):
    return (scale * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def scaled(weight, columns, largest_number):
    """Blocks of that many columns, filled up with zeros, and their scales, by the docstring of ops.store."""
    out, ins = weight.shape
    blocks = np.zeros((out, -(-ins // columns), columns), np.float32)
    blocks.reshape(out, -1)[:, :ins] = weight
    largest = np.abs(blocks).max(-1, keepdims=True)
    scale = (largest / np.float32(largest_number)).astype(np.float16)
    # Of the smallest scales, whose steps are coarse:
    cut = (largest > 0) & (largest >= np.float32(largest_number + 0.5) * scale.astype(np.float32))
    scale = np.where(cut, np.nextafter(scale, np.float16(1)), scale).astype(np.float32)
    return blocks, scale, np.divide(blocks, scale, where=scale > 0, out=np.zeros_like(blocks))


def whole_numbers(columns, largest_number):
    def expected(weight):
        _, scale, q = scaled(weight, columns, largest_number)
        assert np.abs(np.rint(q)).max() <= largest_number
        return (np.rint(q) * scale).reshape(len(weight), -1)[:, : weight.shape[1]]

    return expected


def normal_levels():
    """NF4 as Dettmers et al. make it (QLoRA, 2023, appendix E): quantiles of the normal distribution, eight above 0 and
    seven below, over the largest; float32, as the table has them."""
    ppf = NormalDist().inv_cdf
    offset = 0.9677083
    above = [ppf(p) for p in np.linspace(offset, 0.5, 9)[:-1]]
    below = [-ppf(p) for p in np.linspace(offset, 0.5, 8)[:-1]]
    return (np.array(sorted([*above, 0, *below])) / max(above)).astype(np.float32)


def expected_nf4(weight):
    _, scale, q = scaled(weight, 64, 1)
    levels = NF4
    nearest = levels[np.abs(q[..., None].astype(np.float64) - levels).argmin(-1)]
    return (nearest * scale).reshape(len(weight), -1)[:, : weight.shape[1]]


NF4 = np.array(
    [
        -1.0,
        -0.6961928009986877,
        -0.5250730514526367,
        -0.39491748809814453,
        -0.28444138169288635,
        -0.18477343022823334,
        -0.09105003625154495,
        0.0,
        0.07958029955625534,
        0.16093020141124725,
        0.24611230194568634,
        0.33791524171829224,
        0.44070982933044434,
        0.5626170039176941,
        0.7229568362236023,
        1.0,
    ],
    np.float32,
)


def expected_bfloat16(weight):
    bits = weight.view(np.uint32).astype(np.uint64)
    bits = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16 << 16
    return bits.astype(np.uint32).view(np.float32)


EXPECTED = {
    "bfloat16": expected_bfloat16,
    "int8": whole_numbers(32, 127),
    "int4-symmetric": whole_numbers(32, 7),
    "nf4": expected_nf4,
}


def test_the_levels_of_nf4_are_quantiles_of_the_normal_distribution():
    np.testing.assert_allclose(normal_levels(), NF4, rtol=0, atol=1e-6)
    stored = ops.store(np.tile(NF4, 4)[None], "nf4").numpy()
    assert stored.tobytes() == np.tile(NF4, 4)[None].tobytes()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 300.0])
def test_stored_numbers_follow_the_formula(shape, scale):
    weight = drawn(*shape, scale=scale)
    for kind, want in EXPECTED.items():
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
        for scale in (1e-3, 0.02, 300):
            once = ops.store(drawn(64, 96, scale=scale), kind).numpy()
            assert ops.store(once, kind).numpy().tobytes() == once.tobytes(), (kind, scale)


@pytest.mark.parametrize(("kind", "largest"), [("int8", 127), ("int4-symmetric", 7)])
def test_a_number_half_a_step_beyond_the_largest_keeps_its_sign(kind, largest):
    """Of the smallest scale of float16, 2^-24: rounded to the nearest whole number it would be one too many."""
    weight = np.full((1, 32), (largest + 0.5) * 2.0**-24, np.float32)
    np.testing.assert_allclose(ops.store(weight, kind).numpy(), weight, rtol=0, atol=2.0**-24)


@pytest.mark.parametrize("largest", [1e-40, 3e-8, 1e-6, 1e-5, 3e-4, 8e6])
def test_a_scale_that_float16_barely_holds_cuts_nothing(largest):
    weight = drawn(5, 64)
    weight *= np.float32(largest) / np.abs(weight).max()
    for kind, most in (("int8", 127), ("int4-symmetric", 7)):
        if largest > most * 65504:
            continue
        stored = ops.store(weight, kind).numpy()
        step = max(largest / most, 2.0**-24)  # of float16's smallest numbers
        assert np.abs(stored - weight).max() <= 0.5 * max(step * 1.001, 2.0**-24 + step)


@pytest.mark.parametrize("rows", [0, 1, 9])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_and_one(kind, rows):
    number = 7 if kind == "int4-symmetric" else 127  # held exactly
    for outs, ins in ((0, 4), (4, 0), (1, 1)):
        weight = ops.store(np.full((outs, ins), number, np.float32), kind)
        np.testing.assert_array_equal(weight.numpy(), np.full((outs, ins), number))
        y = ops.stored_linear(np.ones((rows, ins), np.float32), weight)
        np.testing.assert_array_equal(y, np.full((rows, outs), number * ins))
        dx = ops.stored_linear_backward(np.ones((rows, outs), np.float32), weight)
        np.testing.assert_array_equal(dx, np.full((rows, ins), number * outs))


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
    with pytest.raises(ValueError, match="must be 'bfloat16', 'int8', 'nf4' or 'int4-symmetric', got 'int3'"):
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
    assert ops.store(weight, "int4-symmetric").nbytes == 64 * (96 // 2 + 2 * 3)
    assert ops.store(weight, "nf4").nbytes == 64 * (96 // 2 + 2 * 2)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_share_bytes_are_stored_by_several_threads_and_in_pieces(kind, check_threads):
    """Rows i and 16 + i of a panel share bytes of a weight of 4 bits, and a model is filled in pieces of any height."""
    config = loopos.ModelConfig(16, 8, 1, 2, 96, d_ff=200, bias=False)
    weights = "int4" if kind == "nf4" else kind
    name, numbers = "blocks.0.mlp.up_proj.weight", drawn(200, 96)

    def filled(pieces):
        core = loopos.Model(config, weights=weights)._core
        for first, last in pairwise(pieces):
            assert core.store(name, first, numbers[first:last]) == -1
        return core.get_stored(name)[0]

    whole = filled([0, 200])
    np.testing.assert_array_equal(filled([0, 7, 40, 57, 73, 200]), whole)
    check_threads(lambda: (filled([0, 9, 200]),))


def figures():
    """Errors over input scales 2^0 to 2^9 against float64, relative, and whether the bits are those of linear."""
    worst, same = 0.0, True
    for kind in KINDS:
        for outs, ins in ((70, 300), (33, 65), (130, 1100)):
            weight = ops.store(drawn(outs, ins), kind)
            plain = weight.numpy()
            for power in POWERS:
                for rows in (1, 2, 3, 8, 30):
                    x, dy = drawn(rows, ins, seed=power, scale=2.0**power), drawn(rows, outs, seed=power)
                    y, dx = ops.stored_linear(x, weight), ops.stored_linear_backward(dy, weight)
                    same = same and y.tobytes() == ops.linear(x, plain).tobytes()
                    for got, want in ((y, x.astype(np.float64) @ plain.T), (dx, dy.astype(np.float64) @ plain)):
                        worst = max(worst, np.linalg.norm(got - want) / np.linalg.norm(want))
    return {"isa": loopos._core.isa(), "worst": float(worst), "same": same}


@pytest.mark.parametrize(
    "isa",
    [
        "baseline",
        pytest.param("avx2", marks=pytest.mark.unsanitized("the sources of avx512, compiled otherwise")),
        "avx512",
    ],
)
def test_float_against_double_on_every_instruction_set(isa):
    env = environment(isa)
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
