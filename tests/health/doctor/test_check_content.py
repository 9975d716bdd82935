"""The doctor and what the data say: other files, other tokenizers, padding, and held-out data that are learned."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

import loopos
from loopos.data import default_text
from loopos.data.tokenizer import ByteTokenizer, CharTokenizer
from loopos.health.doctor import doctor
from loopos.health.doctor.check_content import known
from loopos.health.doctor.report import OK, WARN

RNG = np.random.default_rng(0)
BOOK = default_text()[:60_000]


@pytest.fixture(autouse=True)
def _no_model(monkeypatch):
    """What is examined with the model is not looked at here, and takes the time."""
    monkeypatch.setattr(doctor, "EXAMINATIONS", [])


@pytest.fixture
def look(config):
    """look(data, vocab_size=256, weights=False, **settings): the report of the quick round."""

    def make(data, vocab_size=256, weights=False, **settings):
        shape = config(vocab_size=vocab_size)
        return loopos.doctor(
            loopos.Model(shape) if weights else shape, data, quick=True, learning_rate=1e-3, **settings
        )

    return make


def names(report):
    return [check.name for check in report.problems]


# The ids


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (BOOK.encode("utf-16"), "text in UTF-16"),
        (BOOK.encode("utf-16-le"), "text in UTF-16 without its mark"),
        (gzip.compress(BOOK.encode()), "compressed by gzip"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d" * 32 + b"\nsize 1115394\n", "git-lfs"),
        (b"<!DOCTYPE html>\n<html><body>404 Not Found</body></html>\n" * 9, "an HTML page"),
        (BOOK.encode() + bytes(100_000), "112"),
    ],
)
def test_bytes_that_are_no_text(data, said, look):
    if said == "112":
        data, said = data[:1000] + bytes(9000), "of its first 10000 bytes are 0"
    check = look(data)["content"]
    assert check.verdict == WARN
    assert said in check.measured


def test_pieces_of_wider_ids(look):
    ids = np.minimum(RNG.integers(1, 50304, 20_000), RNG.integers(1, 50304, 20_000))
    for dtype, said in ((np.uint32, "every second id"), (np.int64, "three of four ids")):
        with pytest.warns(UserWarning, match="data: read as uint16"):  # as train says it
            report = look(ids.astype(dtype).view(np.uint16), 50304)
        assert names(report) == ["content"]
        assert said in report["content"].measured
    assert look(ids.astype(np.uint32), 50304).problems == ()


def test_one_id_nearly_everywhere(look):
    ids = RNG.integers(1, 256, 5000)
    ids[RNG.random(5000) < 0.5] = 0
    assert "the most frequent is 0 (" in look(ids)["content"].measured
    assert names(look(ids)) == ["content"]


@pytest.mark.parametrize(
    ("data", "settings"),
    [
        (BOOK, {}),
        (BOOK, {"tokenizer": "bytes"}),
        (BOOK, {"tokenizer": CharTokenizer(BOOK), "vocab_size": len(set(BOOK))}),
        (RNG.integers(0, 256, 5000), {}),
        (np.arange(5000) % 64, {"vocab_size": 64}),
        (RNG.integers(0, 50257, 5000), {"vocab_size": 50304}),
        (
            np.minimum(RNG.integers(0, 50257, 5000), RNG.integers(0, 50257, 5000)),
            {"vocab_size": 50257, "weights": True},
        ),
        (BOOK, {"vocab_size": 320, "weights": True, "tokenizer": "bytes"}),
        (BOOK, {"vocab_size": 300}),
    ],
)
def test_ids_that_are_as_they_should_be(data, settings, look):
    report = look(data, **settings)
    assert report.problems == (), report


@pytest.mark.parametrize(
    ("data", "settings", "said"),
    [
        (BOOK, {"vocab_size": 50_000}, "49744 ids never come"),
        (BOOK, {"vocab_size": 50_304}, "ids never come"),
        (np.frombuffer(BOOK.encode(), np.uint8), {"vocab_size": 50_000}, "bytes or characters for a model of another"),
        (np.frombuffer(BOOK.encode(), np.uint8), {"vocab_size": 50_000, "weights": True}, "never come"),
        (BOOK, {"vocab_size": 331, "weights": True}, "weights that have learned the ids of another tokenizer"),
        (BOOK, {"vocab_size": 331, "weights": True, "tokenizer": ByteTokenizer()}, "the ids of another tokenizer"),
        ("to be or not " * 90, {"vocab_size": 200}, "some tokens have no id in this model"),
    ],
    ids=range(7),
)
def test_another_vocabulary(data, settings, said, look):
    report = look(data, **settings)
    assert "vocabulary" in names(report)
    assert said in report["vocabulary"].advice


# Rows


class Rows:
    """Rows of several lengths, filled up to 24 with id 3, which is what the text has at no place."""

    def __init__(self, side, scored=False, length=8):
        self.side, self.scored, self.length = side, scored, length

    def batch(self, step, micro):
        rng = np.random.default_rng(step)
        ids, targets = np.full((6, 24), 3), np.full((6, 24), 3 if self.scored else -100)
        for row in range(6):
            text = rng.integers(4, 99, self.length + 2 * row + 1)
            at = np.s_[row, : len(text) - 1] if self.side == "right" else np.s_[row, 25 - len(text) :]
            ids[at], targets[at] = text[:-1], text[1:]
        return ids, targets


@pytest.mark.parametrize(
    ("side", "scored", "said"),
    [
        ("left", False, "id 3 fills rows from the left"),
        ("left", True, "id 3 fills rows from the left"),
        ("right", True, "id 3 fills rows and is scored as a label"),
        ("right", False, None),
    ],
)
def test_how_rows_are_filled(side, scored, said, look, config):
    report = loopos.doctor(config(context_length=24), Rows(side, scored), quick=True, learning_rate=1e-3)
    check = report["filling of rows"]
    assert check.verdict == (OK if said is None else WARN)
    assert said is None or said in check.advice
    assert said is not None or report.problems == ()


def test_indented_text_in_rows_is_not_filled(config):
    class Code:
        def batch(self, step, micro):
            rng = np.random.default_rng(step)
            ids = rng.integers(33, 120, (8, 24))
            ids[0, :8] = 32  # one indented line begins a row
            return ids, np.concatenate([ids[:, 1:], ids[:, :1]], axis=1)

    assert loopos.doctor(config(context_length=24), Code(), quick=True)["filling of rows"].verdict == OK


class Cycle:
    """Batches by step modulo ``count``, of another order in each epoch where ``shuffled``."""

    def __init__(self, count, length=None, shuffled=False):
        self.count, self.length, self.shuffled = count, length, shuffled

    def batch(self, step, micro):
        epoch, at = divmod(step, self.count)
        seed = np.random.default_rng(epoch).permutation(self.count)[at] if self.shuffled else at
        text = np.random.default_rng(int(seed)).integers(0, 200, (4, 17))
        return text[:, :-1], text[:, 1:]


class Sized(Cycle):
    def __len__(self):
        return self.length


@pytest.mark.parametrize(
    ("data", "settings", "said"),
    [
        (Cycle(3), {"max_steps": 100}, "3 batches come again and again"),
        (Cycle(2), {"max_steps": 100}, "2 batches come again and again"),
        (Cycle(1), {"max_steps": 100}, "the argument step is not used"),
        (Sized(9, 9), {"max_steps": 100}, "every epoch has the same batches in the same order"),
        (Sized(3, 3), {"epochs": 5}, "every epoch has the same batches in the same order"),
        (Sized(9, 9), {}, None),
        (Sized(9, 9, shuffled=True), {"epochs": 5}, None),
        (Cycle(1000), {"max_steps": 100}, None),
    ],
)
@pytest.mark.parametrize("quick", [True, False])
def test_batches_that_come_again(data, settings, said, quick, config):
    check = loopos.doctor(config(), data, quick=quick, **settings)["batches"]
    assert check.verdict == (OK if said is None else WARN)
    assert said is None or said in check.advice


# What is held out


@pytest.mark.parametrize(
    ("data", "held", "bad"),
    [
        (BOOK, BOOK, True),
        (BOOK, BOOK[5000:9000], True),
        (BOOK, BOOK[-6000:], True),
        (BOOK[:54_000], BOOK[54_000:], False),
        ("to be or not to be. " * 90, "to be or not to be. " * 9, False),  # it says the same everywhere: no news
        ("to be or not to be. " * 90, "to be or not to be. " * 90, True),
        (BOOK, "ab", False),
        (np.arange(999) % 200, np.arange(99) % 200, False),
    ],
    ids=range(8),
)
def test_held_out_data_that_are_learned(data, held, bad, look):
    check = look(data, eval_data=held)["held-out data"]
    assert check.verdict == (WARN if bad else OK), check


def test_held_out_batches_that_are_learned(config):
    class Other(Sized):
        def batch(self, step, micro):
            return super().batch(step + 100, micro)

    data = Sized(9, 9)
    for held, verdict in ((data, WARN), (Sized(9, 9), WARN), (Other(200, 9), OK), (BOOK, OK)):
        assert loopos.doctor(config(), data, quick=True, eval_data=held)["held-out data"].verdict == verdict


def test_pieces_are_found_where_they_are():
    ids = RNG.integers(0, 50, 9000)
    assert known(ids, ids[100:900]) == (1.0, 0.0, 32)
    assert known(ids, RNG.integers(0, 50, 900)) == (0.0, 0.0, 32)
    mixed = np.concatenate([ids[:450], RNG.integers(0, 50, 450)])
    assert known(ids, mixed)[0] == pytest.approx(0.5, abs=0.1)
    assert known(ids, ids[:40])[2] == 8
    assert known(ids, ids[:9]) is None
