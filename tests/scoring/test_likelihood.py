"""Log-likelihoods of continuations against a plain reference, on models made at random."""

from __future__ import annotations

import numpy as np
import pytest

import loopos
from loopos.data.tokenizer import ByteTokenizer
from loopos.scoring import likelihood
from loopos.scoring.likelihood import log_likelihoods, request


class Pairs:
    """A tokenizer that merges "ab" and " c" into one id, so that ids span borders."""

    vocab_size = 300
    merged = ("ab", " c")

    def encode(self, text):
        ids, at = [], 0
        while at < len(text):
            if text[at : at + 2] in self.merged:
                ids.append(256 + self.merged.index(text[at : at + 2]))
                at += 2
            else:
                ids.append(ord(text[at]))
                at += 1
        return ids


def reference(model, context, continuation):
    """One sequence, its logits, a log-softmax, a loop."""
    ids = np.array([*context, *continuation])[None]
    logits = model.forward(ids[:, :-1]).astype(np.float64)[0]
    total = 0.0
    for i, token in enumerate(continuation):
        row = logits[len(context) - 1 + i]
        total += row[token] - row.max() - np.log(np.exp(row - row.max()).sum())
    return total


@pytest.fixture
def model(family):
    made = loopos.Model(family, seed=3)
    for view in made.parameters().values():
        view *= 4  # far from a uniform answer
    return made


def test_a_batch_of_unequal_lengths_is_each_by_itself(model):
    rng, made, expected = np.random.default_rng(0), [], []
    for _ in range(40):
        length = rng.integers(2, 18)
        ids, scored = rng.integers(0, 31, length), int(rng.integers(1, length))
        made.append(likelihood.Request(ids, scored))
        expected.append(reference(model, ids[: length - scored], ids[length - scored :]))
    told = []
    found = log_likelihoods(model, made, told.append)
    np.testing.assert_allclose(found, expected, rtol=2e-6)
    assert sum(told) == 40
    assert np.ptp(expected) > 1


def test_no_batch_is_larger_than_it_says(model, monkeypatch):
    monkeypatch.setattr(likelihood, "BATCH_TOKENS", 30)
    shapes, losses = [], model.losses
    monkeypatch.setattr(model, "losses", lambda ids, targets: shapes.append(ids.shape) or losses(ids, targets))
    made = [likelihood.Request(np.zeros(n, np.int64), 1) for n in (17, 4, 4, 4, 17, 2)]
    assert len(log_likelihoods(model, made)) == 6
    assert all(rows * time <= 30 for rows, time in shapes)
    assert shapes[0][1] == 16


def test_blanks_at_the_end_of_a_context_move_to_the_continuation():
    tokens = Pairs()
    made = request(tokens, "x  ", "y", None, 9)
    assert made.ids.tolist() == [120, 32, 32, 121]
    assert made.scored == 3
    assert request(tokens, "x ", "c", None, 9).ids.tolist() == [120, 257]
    assert request(tokens, "x ", "c", None, 9).scored == 1


def test_the_ids_of_a_continuation_are_those_beyond_the_context_alone():
    made = request(Pairs(), "xa", "bc", None, 9)  # whole: x ab c; context alone: x a
    assert made.ids.tolist() == [120, 256, 99]
    assert made.scored == 1


def test_an_empty_context_is_the_prefix():
    made = request(ByteTokenizer(), "", "hi", 7, 9)
    assert made.ids.tolist() == [7, 104, 105]
    assert made.scored == 2
    with pytest.raises(ValueError, match="an empty context needs a token"):
        request(ByteTokenizer(), "", "hi", None, 9)


def test_a_long_context_loses_its_front():
    made = request(ByteTokenizer(), "abcdef", "gh", None, 4)
    assert bytes(made.ids.tolist()) == b"defgh"  # the last is only predicted
    assert (made.scored, made.cut) == (2, 3)
    with pytest.raises(ValueError, match="an answer of 5 tokens is longer than the model's context_length, 4"):
        request(ByteTokenizer(), "abc", "defgh", None, 4)


def test_a_continuation_without_ids_is_refused():
    class Merging(Pairs):
        merged = ("x!",)

    with pytest.raises(ValueError, match="'!' has no tokens of its own"):
        request(Merging(), "x", "!", None, 9)


def test_nothing_to_score_is_nothing(model):
    assert log_likelihoods(model, []).shape == (0,)
