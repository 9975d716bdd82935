"""What float32 products are computed with, and how exact they are.

Products are chosen once per process, so this file is also the program of its subprocesses.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from loopos import _core, ops

SHAPES = [(16, 32, 16), (33, 70, 49), (64, 600, 32), (129, 1100, 65)]  # m, k, n: whole, ragged, several slices of k
LARGE = (520, 800, 390)  # float32 is by pieces too, in several slices; in blocks of fewer rows it is by multiply-adds
KINDS = ("plain", "wide", "bits", "denormal", "small", "huge", "infinite")
# The relative error of one product at most: of each factor 2^-17, and the product of the lower pieces, which is left
# out; of each factor 2^-8.
NARROW = {"bf16x3": 2 * 2.0**-17 + 2.0**-16, "bf16": 2 * 2.0**-8 + 2.0**-16}
# Of a sum of products whose errors are independent, against its own size: measured 4.6e-6 and 2.4e-3.
ERRORS = {"bf16x3": 6e-6, "bf16": 3e-3}


def draw(rng, kind, shape):
    x = rng.standard_normal(shape, dtype=np.float32)
    if kind == "wide":
        return (x * 2.0 ** rng.integers(-60, 60, shape)).astype(np.float32)
    if kind == "bits":
        return rng.integers(0, 2**32, shape, dtype=np.uint32).view(np.float32)
    if kind == "denormal":
        return (x * 1e-39).astype(np.float32)
    if kind == "small":
        return (x * 2.0 ** rng.integers(-90, -40, shape)).astype(np.float32)
    if kind == "huge":
        return x * np.float32(1e38)
    if kind == "infinite":
        for value in (np.inf, np.nan, -np.inf, 3.395e38):
            x[tuple(rng.integers(0, size) for size in shape)] = value
    return x


def digest(arrays):
    """Of the bits; a NaN is a NaN."""
    sha = hashlib.sha256()
    for x in arrays:
        sha.update(np.where(np.isnan(x), np.float32(np.nan), x).tobytes())
    return sha.hexdigest()


def products(precision, kind):
    rng = np.random.default_rng(KINDS.index(kind))
    with np.errstate(all="ignore"):
        for m, k, n in SHAPES:
            a, b, dc = draw(rng, kind, (m, k)), draw(rng, kind, (k, n)), draw(rng, kind, (m, n))
            yield [ops.matmul(a, b, precision=precision), *ops.matmul_backward(dc, a, b, precision=precision)]


def digests():
    result = {}
    for kind in KINDS:
        rng = np.random.default_rng(KINDS.index(kind))
        a, b = draw(rng, kind, LARGE[:2]), draw(rng, kind, LARGE[1:])
        for threads in (1, 2, 3):
            _core.set_num_threads(threads)
            with np.errstate(all="ignore"):
                result[f"float32 {kind} {threads}"] = [digest([ops.matmul(a, b)])]
    for precision in NARROW:
        for kind in KINDS:
            for threads in (1, 2, 3):
                _core.set_num_threads(threads)
                result[f"{precision} {kind} {threads}"] = [digest(c) for c in products(precision, kind)]
    return result


def computed_with(name, **environment):
    environment = os.environ | environment | {"LOOPOS_PRODUCTS": name}
    done = subprocess.run([sys.executable, __file__], env=environment, capture_output=True, text=True, check=False)
    if "LOOPOS_PRODUCTS=" in done.stderr:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def emulated():
    return computed_with("emulated")


@pytest.mark.parametrize("threads", [2, 3])
def test_bits_do_not_depend_on_threads(emulated, threads):
    for name, bits in emulated.items():
        if name.endswith(" 1"):
            assert emulated[f"{name[:-2]} {threads}"] == bits, name


def test_the_tiles_compute_what_their_emulation_does(emulated):
    assert computed_with("tiles") == emulated


@pytest.mark.parametrize("isa", ["avx2", "avx512"])
def test_the_emulation_is_the_same_on_every_instruction_set(emulated, isa):
    if isa not in _core.available_isas():
        pytest.skip(f"this processor has no {isa}")
    assert computed_with("emulated", LOOPOS_ISA=isa) == emulated


pieces = pytest.mark.skipif(_core.products("bf16") == "fma", reason="products are multiply-adds here")


@pieces
@pytest.mark.parametrize("precision", NARROW)
@pytest.mark.parametrize("kind", ["plain", "wide"])
def test_the_error_of_a_precision_is_what_it_promises(precision, kind):
    rng = np.random.default_rng(3)
    for m, k, n in [*SHAPES, (96, 4096, 80)]:
        a, b = draw(rng, kind, (m, k)), draw(rng, kind, (k, n))
        got, exact = ops.matmul(a, b, precision=precision), a.astype(float) @ b.astype(float)
        assert np.linalg.norm(got - exact) <= ERRORS[precision] * np.linalg.norm(exact)
        assert np.linalg.norm(got - exact) > 1e-7 * np.linalg.norm(exact)  # it is not float32 under another name
        bound = (NARROW[precision] + 1e-6) * (np.abs(a).astype(float) @ np.abs(b).astype(float))
        assert (np.abs(got - exact) <= bound).all()


def by_multiply_adds(a, b):
    return np.concatenate([ops.matmul(a[i : i + 104], b) for i in range(0, len(a), 104)])


@pieces
@pytest.mark.parametrize("kind", ["plain", "wide", "positive", "gradients"])
@pytest.mark.parametrize("k", [256, 384, 800, 3000])
def test_float32_by_six_products_is_nearer_to_the_exact_sum_than_multiply_adds(kind, k):
    rng = np.random.default_rng(6)
    a, b = (draw(rng, kind if kind == "wide" else "plain", shape) for shape in ((520, k), (k, 390)))
    if kind == "positive":
        a, b = np.abs(a), np.abs(b)
    if kind == "gradients":
        a = (a * 1e-6 * 2.0 ** rng.integers(-8, 8, a.shape)).astype(np.float32)
    exact = a.astype(float) @ b.astype(float)
    got, plain = ops.matmul(a, b), by_multiply_adds(a, b)
    assert not np.array_equal(got, plain)
    # A few products make up a sum of the wide ones: its last rounding is all there is.
    assert np.linalg.norm(got - exact) <= (1 if kind == "wide" else 0.6) * np.linalg.norm(plain - exact)


@pieces
def test_products_of_tiny_numbers_lose_no_more_than_is_promised():
    rng = np.random.default_rng(7)
    a, b = draw(rng, "denormal", LARGE[:2]), draw(rng, "plain", LARGE[1:])
    exact = a.astype(float) @ b.astype(float)
    assert (np.abs(ops.matmul(a, b) - exact) <= 6 * LARGE[1] * 2.0**-126 * np.maximum(1, np.abs(b).max())).all()


@pieces
def test_float32_that_is_not_finite_is_what_multiply_adds_make_of_it():
    rng = np.random.default_rng(8)
    for value in (np.inf, -np.inf, np.nan, 3.4e38):
        for side in (0, 1):
            factors = [rng.uniform(0.5, 1, LARGE[:2]), rng.uniform(-1, 1, LARGE[1:])]
            factors = [x.astype(np.float32) for x in factors]
            factors[side][300, 33] = value
            flags = []
            with np.errstate(all="ignore"):
                for product in (by_multiply_adds, ops.matmul):
                    _core.raised_flags()
                    flags.append((product(*factors), _core.raised_flags()))
            (plain, want), (got, raised) = flags
            sick = ~np.isfinite(plain)
            assert sick.any() == (value != 3.4e38)  # which rounds to an infinite piece
            assert np.array_equal(sick, ~np.isfinite(got))
            assert np.array_equal(plain[sick], got[sick], equal_nan=True)
            assert raised == want


@pieces
@pytest.mark.parametrize("precision", NARROW)
def test_a_bias_is_added_once_where_k_has_several_slices(precision):
    rng = np.random.default_rng(4)
    x, weight, bias = (rng.standard_normal(shape, dtype=np.float32) for shape in ((40, 2500), (50, 2500), 50))
    bias *= 1000  # as large as the sums
    plain = ops.linear(x, weight, precision=precision)
    assert np.array_equal(ops.linear(x, weight, bias, precision=precision), bias + plain)
    exact = x.astype(float) @ weight.T.astype(float)
    assert np.linalg.norm(plain - exact) <= ERRORS[precision] * np.linalg.norm(exact)


@pieces
@pytest.mark.parametrize("precision", NARROW)
def test_what_is_not_finite_is_what_float32_makes_of_it(precision):
    """Pieces give inf - inf where float32 gives inf, and round what is near the largest float to inf."""
    rng = np.random.default_rng(5)
    for value in (np.inf, -np.inf, np.nan, 3.395e38, 1e20):
        for side in (0, 1):
            factors = [
                rng.uniform(0.5, 1, (70, 90)).astype(np.float32),
                rng.uniform(-1, 1, (90, 50)).astype(np.float32),
            ]
            factors[side][40, 33] = value
            if value == 1e20:
                factors[1 - side][(33, 7) if side == 0 else (3, 40)] = value
            with np.errstate(all="ignore"):
                plain, got = ops.matmul(*factors), ops.matmul(*factors, precision=precision)
            assert np.array_equal(np.isfinite(plain), np.isfinite(got))
            assert np.array_equal(plain[~np.isfinite(plain)], got[~np.isfinite(plain)], equal_nan=True)


@pieces
@pytest.mark.parametrize("precision", NARROW)
def test_flags_are_those_of_float32(precision):
    a, b = np.ones((64, 64), np.float32), np.ones((64, 64), np.float32)
    cases = {"healthy": (1.0, 1.0), "infinite from outside": (np.inf, 1.0), "overflow": (1e30, 1e30)}
    for name, (x, y) in cases.items():
        a[5, 7], b[7, 3] = x, y
        flags = {}
        for each in ("float32", precision):
            _core.raised_flags()
            with np.errstate(all="ignore"):
                ops.matmul(a, b, precision=each)
            flags[each] = _core.raised_flags()
        assert flags[precision] == flags["float32"], name
        assert flags[precision]["overflow"] == (name == "overflow")


@pieces
@pytest.mark.parametrize("precision", NARROW)
def test_attention_and_linear_take_a_precision(precision):
    rng = np.random.default_rng(7)
    x, w, dy = (rng.standard_normal(s, dtype=np.float32) for s in ((90, 70), (50, 70), (90, 50)))
    q, k, v, dz = (rng.standard_normal((2, 3, 70, 40), dtype=np.float32) for _ in range(4))

    def results(**how):
        y, lse = ops.attention(q, k, v, causal=True, **how)
        return [
            ops.linear(x, w, **how),
            *ops.linear_backward(dy, x, w, has_bias=False, **how)[:2],
            y,
            lse,
            *ops.attention_backward(dz, q, k, v, y, lse, causal=True, **how),
        ]

    for plain, got in zip(results(), results(precision=precision), strict=True):
        error = np.linalg.norm(plain - got) / np.linalg.norm(plain)
        assert 0 < error < 2 * ERRORS[precision]


def test_a_model_has_a_precision_and_an_unknown_one_is_refused():
    import loopos

    core = loopos.Model(loopos.ModelConfig(11, 8, 1, 1, 8))._core
    assert core.precision == "float32"
    core.precision = "bf16x3"
    assert core.precision == "bf16x3"
    with pytest.raises(ValueError, match="precision must be one of 'float32', 'bf16x3', 'bf16', got 'fp8'"):
        core.precision = "fp8"
    assert core.precision == "bf16x3"
    with pytest.raises(ValueError, match="matmul: precision must be one of"):
        ops.matmul(np.ones((2, 2)), np.ones((2, 2)), precision="high")


def test_float32_is_computed_by_six_products_where_there_are_pieces():
    info = _core.products_info()
    assert _core.products("float32") == ("fma" if info["chosen"] == "fma" else f"{info['chosen']} bf16x6")
    assert info["chosen"] in ("fma", "tiles", "emulated")
    assert (info["why"] == "") == (info["chosen"] == "tiles")


@pytest.mark.parametrize("name", ["fma", "none"])
def test_the_environment_chooses(name):
    code = "from loopos import _core; print(_core.products('bf16'), _core.products_info()['why'])"
    environment = os.environ | {"LOOPOS_PRODUCTS": name}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    if name == "fma":
        assert done.stdout.split() == ["fma", "LOOPOS_PRODUCTS=fma"]
    else:
        assert "LOOPOS_PRODUCTS='none': expected fma, tiles or emulated" in done.stderr


if __name__ == "__main__":
    print(json.dumps(digests()))
