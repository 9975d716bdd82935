"""The data arguments of train, opened and checked."""

import json

import numpy as np
import pytest

from loopos.data.sources import open_sources
from loopos.data.tokenizer import ByteTokenizer, CharTokenizer


class Dataset:
    def __init__(self, result=None):
        self.result = result

    def batch(self, step, micro):
        if self.result is not None:
            return self.result
        return np.full((2, 3), step), np.full((2, 3), micro)


class Sized(Dataset):
    size = 3

    def __len__(self):
        return self.size


SMALL = {"vocab_size": 256, "context_length": 4}


def test_datasets_are_asked_and_checked():
    train = open_sources(Dataset(), **SMALL).train
    ids, targets = train.batch(7, 2)
    assert (ids == 7).all()
    assert (targets == 2).all()
    assert train.steps_per_epoch is None
    assert train.fingerprint() == {"kind": "dataset", "length": None}
    assert open_sources(Sized(), **SMALL).train.steps_per_epoch == 3
    with pytest.raises(IndexError, match=r"data\.batch\(256, 1\): ids\[0, 0\] = 256"):
        train.batch(256, 1)
    for result in ([1], "ab", np.zeros((2, 2, 2), int), 5):
        with pytest.raises(TypeError, match=r"data\.batch\(0, 0\): (expected a pair|ids must be)"):
            open_sources(Dataset(result), **SMALL).train.batch(0)


def test_datasets_for_evaluation():
    batches = list(open_sources("some text", Sized(), **SMALL).eval)
    assert [int(ids[0, 0]) for ids, _ in batches] == [0, 1, 2]
    with pytest.raises(ValueError, match=r"eval_data: a dataset to evaluate on needs len"):
        open_sources("some text", Dataset(), **SMALL)
    empty = Sized()
    empty.size = 0
    with pytest.raises(ValueError, match=r"len\(\) is the number of steps per epoch and must be at least 1, got 0"):
        open_sources(empty, **SMALL)


def test_sources_of_a_text():
    train, held_out, tokenizer = open_sources("hello world", "later", **SMALL, batch_size=2)
    assert tokenizer == ByteTokenizer()
    assert train.seq_len == held_out.seq_len == 4
    assert bytes(np.sort(train.batch(0)[0][:, 0]).tolist()) == b"ho"
    assert sum(int((t != -100).sum()) for _, t in held_out) == 4
    assert json.loads(json.dumps(train.fingerprint()))["length"] == 11
    assert open_sources("hello world", **SMALL).eval is None
    assert open_sources([1, 2, 3, 4, 5, 6], **SMALL).tokenizer is None
    assert open_sources([1, 2, 3, 4, 5, 6], "abc", **SMALL).tokenizer == ByteTokenizer()


def test_chars_know_the_characters_of_both_texts():
    train, held_out, tokenizer = open_sources("hello world", "xyz", tokenizer="chars", **SMALL)
    assert tokenizer == CharTokenizer("hello worldxyz")
    assert tokenizer.decode(train.ids) == "hello world"
    assert tokenizer.decode(held_out.ids) == "xyz"
    with pytest.raises(ValueError, match=r"'x'.* at position 0 is not among"):
        open_sources("hello world", "xyz", tokenizer=CharTokenizer("helo wrd"), **SMALL)


def test_a_vocabulary_larger_than_the_model():
    with pytest.raises(IndexError, match=r"data: id 104 at position 0 is outside 0\.\.99"):
        open_sources("hello world", vocab_size=100, context_length=4)
    with pytest.raises(IndexError, match=r"eval_data: id 104 at position 0 is outside 0\.\.99"):
        open_sources([1] * 10, "hello", vocab_size=100, context_length=4)


@pytest.mark.parametrize("empty", ["", b"", [], np.array([])])
@pytest.mark.parametrize("tokenizer", [None, "chars"])
def test_empty_data_gives_both_numbers(empty, tokenizer):
    with pytest.raises(ValueError, match="data: 0 tokens are too few for seq_len 4, which needs at least 5"):
        open_sources(empty, tokenizer=tokenizer, **SMALL)


def test_empty_evaluation_data():
    for empty in ("", b"", []):
        with pytest.raises(ValueError, match="eval_data: 0 tokens are too few"):
            open_sources("hello world", empty, **SMALL)


def test_mistyped_paths_are_found_out():
    wide = {"vocab_size": 256, "context_length": 64}
    with pytest.raises(FileNotFoundError, match=r"file was not found.*data: 9 tokens"):
        open_sources("input.txt", **wide)
    with pytest.raises(FileNotFoundError, match=r"file was not found.*eval_data: 8 tokens"):
        open_sources("a b" * 40, "eval.txt", **wide)
    with pytest.raises(ValueError, match="data: 11 tokens are too few for seq_len 64, which needs at least 65"):
        open_sources("hello world", **wide)


def test_seq_len():
    assert open_sources("hello world", seq_len=3, **SMALL).train.seq_len == 3
    for data_, held_out in (("hello world", None), (Dataset(), "hello world")):
        with pytest.raises(ValueError, match="train: seq_len must be at most context_length 4, got 5"):
            open_sources(data_, held_out, seq_len=5, **SMALL)
    assert open_sources(Dataset(), seq_len=5, **SMALL).train.batch(0)[0].shape == (2, 3)  # unused there
    for value, error in ((0, ValueError), (2.0, TypeError), (True, TypeError)):
        with pytest.raises(error, match="train: seq_len must be an integer of at least 1"):
            open_sources(Dataset(), seq_len=value, **SMALL)


@pytest.mark.parametrize("name", ["batch_size", "grad_accum"])
@pytest.mark.parametrize("kind", ["text", "dataset"])
def test_bad_settings_are_refused_for_datasets_too(name, kind):
    with pytest.raises(ValueError, match=f"train: {name} must be an integer of at least 1, got 0"):
        open_sources("hello world" if kind == "text" else Dataset(), **{name: 0}, **SMALL)
