"""The state of numpy's global generator, without its 624 words being copied when nothing was drawn."""

from __future__ import annotations

import numpy as np
import pytest

from loopos.watch import numpy_state
from loopos.watch.numpy_state import NumpyState

# ruff: noqa: NPY002 (numpy's global generator is what this is about)


@pytest.fixture(autouse=True)
def _put_back():
    before = np.random.get_state()
    yield
    np.random.set_state(before)


def same(one, two):
    return [str(each) for each in one] == [str(each) for each in two] and bool((one[1] == two[1]).all())


DRAWS = [
    lambda: None,
    np.random.rand,
    np.random.randn,  # two at a time: the second is stored
    np.random.randn,
    np.random.randn,
    lambda: np.random.seed(3),
    lambda: np.random.rand(2000),
    lambda: np.random.set_state(np.random.RandomState(5).get_state()),
    np.random.standard_normal,
]


def test_it_is_numpys_own_after_whatever_was_drawn():
    state = NumpyState()
    for draw in [each for each in DRAWS for _ in range(2)]:
        draw()
        for _ in range(3):
            assert same(state.now(), np.random.get_state())


def test_a_state_of_before_is_not_changed_by_draws():
    np.random.seed(0)
    state = NumpyState()
    before = state.now()
    drawn = np.random.rand(3)
    state.now()
    np.random.set_state(before)
    assert (np.random.rand(3) == drawn).all()


def test_the_words_are_copied_only_when_they_changed(monkeypatch):
    np.random.seed(0)
    state, copies, copy = NumpyState(), [], np.random.get_state
    monkeypatch.setattr(np.random, "get_state", lambda **how: copies.append(1) or copy(**how))
    for _ in range(3):
        state.now()
    assert len(copies) == 1
    np.random.rand()
    state.now()
    assert len(copies) == 2


def test_another_generator_is_asked_every_time(monkeypatch):
    monkeypatch.setattr(numpy_state, "_raw", lambda: None)
    state = NumpyState()
    for _ in range(2):
        np.random.rand()
        assert same(state.now(), np.random.get_state())


@pytest.mark.skipif(not hasattr(np.random, "set_bit_generator"), reason="numpy before 1.24 has one generator")
def test_a_generator_of_ones_own():
    before = np.random.get_bit_generator()
    state = NumpyState()
    state.now()
    try:
        np.random.set_bit_generator(np.random.PCG64(3))
        assert state.now()["bit_generator"] == "PCG64"
        np.random.set_bit_generator(np.random.MT19937(4))
        assert same(state.now(), np.random.get_state())
    finally:
        np.random.set_bit_generator(before)
    assert same(state.now(), np.random.get_state())
