"""The entropy ladder against entropies computed by hand, and what it claims of a loss on a rung."""

from __future__ import annotations

import math

import numpy as np
import pytest

from loopos.monitor.ladder import Ladder, ladder
from loopos.monitor.verdict import FLAT, verdict


@pytest.mark.parametrize(
    ("rungs", "loss", "silent"),
    [
        (Ladder(4.16, 4.15, 4.14), 4.15, ("dead", "nothing has been learned (", "gradients reach")),  # uniform tokens
        (Ladder(4.16, 3.3, 3.29), 3.3, ("dead", "gradients reach")),  # independent tokens, learned well
        (Ladder(4.16, 4.12, 3.0), 4.14, ("nothing has been learned (", "gradients reach")),
        (Ladder(4.16, 4.12, 4.0), 4.07, ("gradients reach",)),  # near two that are no longer near each other
    ],
)
def test_rungs_that_coincide_tell_of_no_death(rungs, loss, silent):
    found = verdict([loss] * 30, rungs=rungs)
    assert found.kind == FLAT
    assert " or " in found.rung
    assert "too close to tell apart" in found.says
    assert not [word for word in silent if word in found.says]


def test_a_ladder_of_few_data_claims_nothing_for_certain():
    assert "if there is more to learn" in Ladder(4.16, 3.3, 0.4, False).rung(3.3)[1]
    assert "If what is before it tells more" in Ladder(4.16, 3.3, 2.4).rung(2.4)[1]


def test_the_ladder_is_the_entropies_of_the_stream():
    table = np.array([[0.8, 0.1, 0.1], [0.2, 0.6, 0.2], [0.25, 0.25, 0.5]])
    ids = [0]
    for drawn in np.random.default_rng(1).random(40_000):
        ids.append(int(np.searchsorted(np.cumsum(table[ids[-1]])[:-1], drawn)))
    found = ladder(np.array(ids), 7)
    values, vectors = np.linalg.eig(table.T)
    stationary = np.real(vectors[:, np.argmax(np.real(values))])
    stationary /= stationary.sum()
    assert found.uniform == pytest.approx(math.log(7))
    assert found.unigram == pytest.approx(-(stationary * np.log(stationary)).sum(), abs=0.02)
    assert found.bigram == pytest.approx(-(stationary[:, None] * table * np.log(table)).sum(), abs=0.02)
    assert ladder(np.arange(100) % 5, 5).bigram == pytest.approx(0, abs=1e-12)


def test_bad_input_is_a_sentence():
    with pytest.raises(ValueError, match="at least 2"):
        ladder(np.array([1]), 5)
    with pytest.raises(IndexError, match=r"0\.\.4"):
        ladder(np.array([1, 5]), 5)
    with pytest.raises(ValueError, match="vocab_size"):
        ladder(np.array([1, 2]), 0)


def test_a_cycle_that_is_known_has_nothing_left_to_tell():
    rungs = ladder(np.arange(10000) % 16, 50)
    for loss in (rungs.bigram, 1e-3):
        assert rungs.rung(loss) == (
            "bigram",
            "the present token tells the next one, and the model knows it: there is no more to learn",
        )
    assert "tokens is used so far. If the loss stays here" in rungs.rung(rungs.unigram)[1]


def test_rungs_that_coincide_are_called_by_name():
    ids = np.random.default_rng(0).integers(0, 16, 100000)
    assert (
        ladder(ids, 16).rung(2.7725)[1].startswith("the entropies of pairs and of tokens and of a uniform guess, ln V,")
    )
