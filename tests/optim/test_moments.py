"""Moments in fewer bits: the rounding of ``cpp/kernels/rows/moments.h`` in plain numpy, bit for bit; right in the mean,
where the nearest is stuck; the same for any number of threads and over a resume; whole or not at all."""

from __future__ import annotations

import numpy as np
import pytest

from loopos import NonFiniteError, optim
from loopos.threads import threads as using_threads

SMALL = ("bfloat16", "8bit")
BLOCK, CHUNK = 128, 8192
M, V = "exp_avg", "exp_avg_sq"
U32 = np.uint32


def philox(key, low, high):
    """The four words of a counter of Philox4x32-10 (Salmon et al. 2011)."""
    mask = 2**32 - 1
    k0, k1 = key & mask, key >> 32
    c = [low & mask, low >> 32, high & mask, high >> 32]
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ k0, p1 & mask, (p0 >> 32) ^ c[3] ^ k1, p0 & mask]
        k0, k1 = (k0 + 0x9E3779B9) & mask, (k1 + 0xBB67AE85) & mask
    return c


def chance(word, count):
    x = U32(word) + np.arange(count, dtype=U32) * U32(0x9E3779B9)
    x = (x ^ (x >> U32(16))) * U32(0x85EBCA6B)
    x = (x ^ (x >> U32(13))) * U32(0xC2B2AE35)
    return x ^ (x >> U32(16))


def as_bfloat16(x, random):
    bits = x.view(U32)
    size = np.minimum((bits & U32(0x7FFFFFFF)) + (random >> U32(16)), U32(0x7F7FFFFF))
    return (((bits & U32(0x80000000)) | size) >> U32(16)).astype(np.uint16)


def code(signed):
    """(least, full, most)"""
    if signed:
        return np.float32(2**-15), np.float32(1.875 - 2**-15), 127
    return np.float32(2**-31), np.float32(1.875), 255


def as_codes(x, random, signed):
    least, full, most = code(signed)
    starts = np.arange(0, x.size, BLOCK)
    scales = np.clip(np.maximum.reduceat(np.abs(x), starts), np.float32(2.0**-100), np.float32(3e38))
    placed = np.abs(x) / np.repeat(scales, BLOCK)[: x.size] * full + least
    codes = ((placed.view(U32) + (random >> U32(12))) >> U32(20)) - (least.view(U32) >> U32(20))
    codes = np.minimum(codes, U32(most))
    codes = codes | (x.view(U32) & U32(0x80000000)) >> U32(24) if signed else np.maximum(codes, x > 0)
    return codes.astype(np.uint8), scales


def numbers(kept, name, shape):
    """What is kept under a name, as float32."""
    if kept[name].dtype == np.uint16:
        return (kept[name].astype(U32) << U32(16)).view(np.float32)
    signed = name.startswith(M + ".")
    least, full, most = code(signed)
    codes, scales = kept[name].reshape(-1), kept[name.replace(".", "_scale.", 1)]
    unit = np.repeat(scales / full, BLOCK)[: codes.size]
    size = (((codes.astype(U32) & U32(most)) + (least.view(U32) >> U32(20))) << U32(20)).view(np.float32) - least
    size = size * unit
    return (np.where(codes & 0x80, -size, size) if signed else size).astype(np.float32).reshape(shape)


SHAPES = {"a": (5, 7), "large": (3, CHUNK + 77), "none": (0,), "one": (1,), "row": (BLOCK,)}


def draw(seed, scale=1.0):
    rng = np.random.default_rng(seed)
    return {
        n: (scale * rng.standard_normal(s) * 10 ** rng.uniform(-4, 0, s)).astype(np.float32) for n, s in SHAPES.items()
    }


def keep(moment, which, first_chunk, count, kind):
    """(kept, scales) of a moment of one tensor after update ``count`` (from 0)."""
    flat, kept, scales = moment.reshape(-1), [], []
    for at in range(0, flat.size, CHUNK):
        part = flat[at : at + CHUNK]
        random = chance(philox(0x6D6F6D656E7473, first_chunk + at // CHUNK, count)[which], part.size)
        if kind == "bfloat16":
            kept.append(as_bfloat16(part, random))
        else:
            codes, scale = as_codes(part, random, signed=which == 0)
            kept.append(codes)
            scales.append(scale)
    empty = np.zeros(0, np.uint16 if kind == "bfloat16" else np.uint8)
    return np.concatenate([*kept, empty]).reshape(moment.shape), np.concatenate([*scales, np.zeros(0, np.float32)])


@pytest.mark.parametrize("kind", SMALL)
def test_a_step_is_that_of_numbers_which_are_then_kept_by_the_rule(kind):
    """The update by the numbers that are kept is that of an AdamW of float32 moments; what it leaves is rounded."""
    params, betas = draw(0), (0.9, 0.99)
    small = optim.AdamW(params, 1e-2, betas=betas, moments=kind)
    for count in range(4):
        before = {name: p.copy() for name, p in params.items()}
        kept, grads = small.state_dict(), draw(10 + count)
        wide = optim.AdamW(before, 1e-2, betas=betas)
        known = {f"{m}.{n}": numbers(kept, f"{m}.{n}", s) for m in (M, V) for n, s in SHAPES.items()}
        wide.load_state_dict({"step": count, **known})
        small.step(grads)
        wide.step(grads)
        assert all(np.array_equal(before[n], params[n]) for n in SHAPES)
        now, new, chunk = small.state_dict(), wide.state_dict(), 0
        for name, shape in SHAPES.items():
            for which, moment in enumerate((M, V)):
                expected, scales = keep(new[f"{moment}.{name}"], which, chunk, count, kind)
                assert np.array_equal(now[f"{moment}.{name}"], expected), (count, name, moment)
                if kind == "8bit":
                    assert np.array_equal(now[f"{moment}_scale.{name}"], scales)
            chunk += -(-int(np.prod(shape)) // CHUNK)
        told = small.state_in_numbers()
        assert all(np.array_equal(told[key], numbers(now, key, told[key].shape)) for key in known)


@pytest.mark.parametrize(("kind", "error"), [("float32", 1e-4), ("bfloat16", 0.03), ("8bit", 0.1)])
@pytest.mark.parametrize("rising", [False, True])
def test_a_second_moment_of_thousandths_is_right_in_the_mean(kind, error, rising):
    """beta2 0.999: of 1 to the nearest bfloat16 is 1 again, and it would be stuck."""
    count, steps = 4096, 1000
    near = np.float32(0.999).view(U32) + U32(0x8000) >> U32(16) << U32(16)
    assert near.view(np.float32) == 1  # stuck
    params = {"w": np.ones(count, np.float32)}
    optimizer = optim.AdamW(params, 0.0, betas=(0.9, 0.999), moments=kind)
    large, none = np.full(count, 1.0, np.float32), np.zeros(count, np.float32)
    expected = 0.0
    for step in range(2 * steps if rising else steps):
        grad = large if rising or step < 200 else none
        optimizer.step({"w": grad})
        expected = 0.999 * expected + 0.001 * float(grad[0]) ** 2
    second = optimizer.state_in_numbers()[V + ".w"].astype(np.float64)
    assert second.mean() == pytest.approx(expected, rel=error)
    assert (second > 0).all()


@pytest.mark.parametrize("kind", SMALL)
def test_what_is_kept_is_near(kind):
    """bfloat16: 2^-7 of the number; 8 bits: an eighth of it, or of the first moment 2^-18 of the largest of its 128."""
    params = draw(3)
    optimizer = optim.AdamW(params, 0.0, betas=(0.0, 0.0), moments=kind)
    grads = draw(4)
    optimizer.step(grads)
    state = optimizer.state_in_numbers()
    for name in SHAPES:
        first, second = state[f"{M}.{name}"], state[f"{V}.{name}"]
        flat = np.zeros(-(-grads[name].size // BLOCK) * BLOCK, np.float32)
        flat[: grads[name].size] = np.abs(grads[name]).reshape(-1)
        top = np.repeat(flat.reshape(-1, BLOCK).max(1, initial=0), BLOCK)[: grads[name].size].reshape(SHAPES[name])
        unit, floor = (2**-7, 0) if kind == "bfloat16" else (1 / 8, 2.0**-18)
        assert (np.abs(first - grads[name]) <= unit * 1.001 * np.abs(grads[name]) + floor * top).all()
        square = grads[name] ** 2
        floor = floor and 2.0**-34
        assert (np.abs(second - square) <= unit * 1.001 * square + floor * top**2).all()


@pytest.mark.parametrize("rule", [optim.AdamW, optim.Adam, optim.Lion])
@pytest.mark.parametrize("kind", SMALL)
def test_bits_do_not_depend_on_threads(kind, rule):
    def run(threads):
        with using_threads(threads):
            params = draw(0)
            optimizer = rule(params, 1e-2, moments=kind)
            for seed in range(1, 4):
                optimizer.step(draw(seed))
            return {**params, **optimizer.state_dict()}

    one = run(1)
    for threads in (2, 3, 5):
        other = run(threads)
        assert all(np.array_equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("kind", SMALL)
def test_a_state_goes_on_bit_for_bit_and_a_bad_one_is_refused(kind):
    params = draw(0)
    optimizer = optim.AdamW(params, 1e-2, moments=kind)
    optimizer.step(draw(1))
    state, copies = optimizer.state_dict(), {name: p.copy() for name, p in params.items()}
    other = optim.AdamW(copies, 1e-2, moments=kind)
    other.load_state_dict(state)
    for each in (optimizer, other):
        each.step(draw(2))
    assert all(np.array_equal(params[n], copies[n]) for n in SHAPES)
    assert all(np.array_equal(v, other.state_dict()[k]) for k, v in optimizer.state_dict().items())
    bad = dict(state)
    if kind == "bfloat16":
        bad[V + ".a"] = np.full(SHAPES["a"], 0xBF80, np.uint16)  # -1
    else:
        bad[V + "_scale.a"] = np.full(1, -1, np.float32)
    with pytest.raises(ValueError, match="a second moment must not be negative, got -1"):
        other.load_state_dict(bad)
    with pytest.raises(TypeError, match="expected dtype"):
        optim.AdamW(copies, moments=kind).load_state_dict(
            {key: v.astype(np.float32) if isinstance(v, np.ndarray) else v for key, v in state.items()}
        )


@pytest.mark.parametrize("kind", SMALL)
def test_a_refused_step_leaves_every_bit(kind):
    params = draw(0)
    optimizer = optim.AdamW(params, 1e-2, moments=kind)
    optimizer.step(draw(1))

    def refused(grads):
        before = {**{n: p.copy() for n, p in params.items()}, **optimizer.state_dict()}
        with pytest.raises(NonFiniteError) as caught:
            optimizer.step(grads)
        after = {**params, **optimizer.state_dict()}
        assert all(np.array_equal(before[key], after[key]) for key in before)
        assert caught.value.birth.tensor == "large"
        return caught.value.birth

    grads = draw(2)
    grads["large"][2, 5] = np.nan
    assert refused(grads).phase == "backward"
    grads["large"][2, 5] = 3e38  # its square is beyond float32
    birth = refused(grads)
    assert (birth.phase, birth.index) == ("update", (2, 5))
    assert birth.operands["new " + V] == np.inf
    assert birth.operands[M] == optimizer.state_in_numbers()[f"{M}.large"][2, 5]
    optimizer.step(draw(3))


@pytest.mark.parametrize("size", [1e-38, 1e-30, 1e-20])
def test_a_second_moment_above_zero_never_becomes_zero(size):
    optimizer = optim.AdamW({"w": np.zeros(200, np.float32)}, 1e-3, betas=(0.0, 0.0), moments="8bit")
    grads = np.sqrt(size * 10.0 ** -np.linspace(0, 20, 200)).astype(np.float32)
    optimizer.step({"w": grads})
    second = optimizer.state_in_numbers()[V + ".w"]
    assert ((second > 0) == (grads * grads > 0)).all()


@pytest.mark.parametrize("kind", SMALL)
def test_the_largest_numbers_stay_finite(kind):
    params = {"w": np.zeros(300, np.float32)}
    optimizer = optim.AdamW(params, 1e-3, betas=(0.0, 0.0), moments=kind)
    largest = np.float32(1.8e19)  # its square is 3.2e38
    for _ in range(3):
        optimizer.step({"w": np.full(300, largest)})
    state = optimizer.state_in_numbers()
    assert np.isfinite(params["w"]).all()
    assert all(np.isfinite(state[key]).all() for key in state if key != "step")
    state = optimizer.state_dict()  # a moment that is not finite, written by hand
    state[M + ".w" if kind == "bfloat16" else M + "_scale.w"][:] = 0x7F80 if kind == "bfloat16" else np.inf
    optimizer.load_state_dict(state)
    with pytest.raises(NonFiniteError):
        optimizer.step({"w": np.ones(300, np.float32)})


def test_what_has_none_says_so():
    weights = {"w": np.zeros((2, 2))}
    with pytest.raises(ValueError, match="moments in fewer bits are of float32 weights"):
        optim.AdamW(weights, moments="8bit")
    with pytest.raises(ValueError, match="moments must be one of 'float32', 'bfloat16', '8bit'"):
        optim.AdamW(weights, moments="int8")


@pytest.mark.parametrize("kind", SMALL)
def test_zeros_stay_zeros_and_tiny_ones_do_not_vanish(kind):
    params = {"w": np.ones(400, np.float32)}
    optimizer = optim.AdamW(params, 1e-3, weight_decay=0.0, moments=kind)
    grad = np.zeros(400, np.float32)
    grad[::2] = 1e-3
    grad[1] = 1e-15  # beside 1e-3 it has no code, but what it is divided by must not be 0
    for _ in range(5):
        optimizer.step({"w": grad})
    state = optimizer.state_in_numbers()
    assert not state[V + ".w"][3::2].any()
    assert (params["w"][3::2] == 1).all()
    assert state[V + ".w"][1] > 0
    assert (np.abs(params["w"] - 1) <= 5.5e-3).all()
