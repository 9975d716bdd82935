"""The core's cache: it continues, grows and rewinds, in blocks, and gives what the whole gives."""

from __future__ import annotations

import math

import numpy as np
import pytest

import loopos
from loopos.generation.cache import BLOCK, feed, refuse_nonfinite

from .conftest import KINDS, build

IDS = np.random.default_rng(0).integers(0, 61, (2, 600))
CLOSE = {"float32": 3e-5, "float64": 1e-12}


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("kind", KINDS)
def test_in_pieces_of_any_length_it_is_forward(kind, dtype):
    model = build(kind, dtype)
    whole, core = model.forward(IDS), model._core
    core.start_generation(2, 600)
    at = 0
    for piece in (1, 1, 7, 300, 1, 64, 226):
        logits = core.next_logits(IDS[:, at : at + piece])
        at += piece
        np.testing.assert_allclose(logits, whole[:, at - 1], rtol=0, atol=CLOSE[dtype])
        assert core.generation()[1:] == (at, 600)


@pytest.mark.parametrize("kind", KINDS)
def test_rewound_it_goes_on_from_there(kind):
    model = build(kind)
    core = model._core
    core.start_generation(2, 600)
    core.next_logits(IDS[:, :90])
    other = np.concatenate([IDS[:, :40], IDS[:, 100:130]], axis=1)
    core.rewind(40)
    got = core.next_logits(other[:, 40:])
    np.testing.assert_allclose(got, model.forward(other)[:, -1], rtol=0, atol=3e-5)
    core.rewind(0)
    np.testing.assert_array_equal(core.next_logits(other), _fresh(model, other))
    for wrong in (-1, 71):
        with pytest.raises(ValueError, match="rewind: the cache holds 70 positions"):
            core.rewind(wrong)


def _fresh(model, ids):
    model._core.start_generation(len(ids), ids.shape[1])
    return model._core.next_logits(ids)


@pytest.mark.parametrize("padding", [None, np.array([0, 13])])
def test_it_grows_without_a_change(padding):
    core, other = build()._core, build()._core
    core.start_generation(2, 50, padding)
    other.start_generation(2, 600, padding)
    for at, to, room in ((0, 50, 50), (50, 51, 51), (51, 300, 310), (300, 310, 310), (310, 600, 600)):
        core.extend_generation(room)
        np.testing.assert_array_equal(core.next_logits(IDS[:, at:to]), other.next_logits(IDS[:, at:to]))
    with pytest.raises(ValueError, match="length must be from 600 to 640, got 599"):
        core.extend_generation(599)
    with pytest.raises(ValueError, match="do not continue the generation"):
        core.next_logits(IDS[:, :1])


def test_feed_takes_blocks_and_may_be_broken_off_between_them():
    model, calls = build(), []
    core = model._core
    core.start_generation(2, 600)
    np.testing.assert_allclose(feed(core, IDS, lambda: calls.append(0)), model.forward(IDS)[:, -1], rtol=0, atol=3e-5)
    assert len(calls) == -(-600 // BLOCK)

    def second():
        if core.generation()[1] == BLOCK:
            raise KeyboardInterrupt

    core.start_generation(2, 600)
    with pytest.raises(KeyboardInterrupt):
        feed(core, IDS, second)
    assert core.generation()[1] == BLOCK
    np.testing.assert_allclose(feed(core, IDS[:, BLOCK:]), model.forward(IDS)[:, -1], rtol=0, atol=3e-5)


def test_padding_is_checked():
    core = build()._core
    for wrong, words in (
        (np.zeros(3, int), r"padding must have shape \(B,\) = \(2,\)"),
        (np.array([0, 9]), "from 0 to 8"),
    ):
        with pytest.raises(ValueError, match=words):
            core.start_generation(2, 8, wrong)


def test_bits_do_not_depend_on_threads():
    model, found = build(), []
    before = loopos.get_num_threads()
    try:
        for threads in (1, 2, 3, 5):
            loopos.set_num_threads(threads)
            model._core.start_generation(2, 600, np.array([5, 0]))
            found.append(
                [model._core.next_logits(IDS[:, a:b]).tobytes() for a, b in ((0, 300), (300, 301), (301, 600))]
            )
    finally:
        loopos.set_num_threads(before)
    assert all(each == found[0] for each in found)


def test_logits_that_are_not_finite_have_a_birth():
    model = build()
    rows = [np.array([1, 2, 3]), np.array([4])]
    logits = np.zeros((2, 61))
    refuse_nonfinite(model._core, rows, logits)
    logits[1, 5] = math.inf
    refuse_nonfinite(model._core, rows, logits, np.array([True, False]))
    with pytest.raises(loopos.NonFiniteError, match="generate: a logit is not finite") as caught:
        refuse_nonfinite(model._core, rows, logits)
    assert (caught.value.birth.tensor, caught.value.birth.index) == ("logits", (1, 0, 5))
    model.parameters()["blocks.1.attn.o_proj.weight"][3, 3] = math.nan
    with pytest.raises(loopos.NonFiniteError) as caught:
        refuse_nonfinite(model._core, rows, logits)
    assert (caught.value.birth.tensor, caught.value.birth.index) == ("blocks.1.attn.o_proj.weight", (3, 3))
