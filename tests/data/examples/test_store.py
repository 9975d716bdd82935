"""The cache of tokens: made once, never of other data, made again when it is damaged."""

from __future__ import annotations

import os
import shutil
import stat

import numpy as np
import pytest

from loopos.data.examples import store as module
from loopos.data.examples.encoding import Encoded
from loopos.data.examples.store import ABOUT, TABLE, TOKENS, of_examples, of_file


def examples(count=50, seed=0):
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        ids = rng.integers(3, 90, rng.integers(0, 9)).astype(np.int32)
        learned = rng.random(len(ids)) < 0.5
        found.append(Encoded(np.where(learned, ids, ~ids), number + 1, number % 3, number % 5))
    return found


class Maker:
    """Counts how often it is asked."""

    def __init__(self, found):
        self.found, self.asked = found, 0

    def __call__(self):
        self.asked += 1
        return iter(self.found)


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setenv(module.CACHE_DIR, str(tmp_path / "home"))
    (tmp_path / "place").mkdir()
    path = tmp_path / "place" / "a.jsonl"
    path.write_text("content")
    return path


def same(store, found):
    assert len(store) == len(found)
    for i, each in enumerate(found):
        assert store.tokens(i, 100).tolist() == each.tokens.tolist()
        assert store.tokens(i, 2).tolist() == each.tokens[:2].tolist()
        assert (store.numbers[i], store.forms[i], store.causes[i]) == (each.number, each.form, each.cause)
    return True


def cache_of(source):
    (folder,) = source.with_name("a.jsonl.loopos").iterdir()
    return folder


def test_a_small_file_is_not_kept(source):
    make = Maker(examples())
    for _ in range(2):
        assert same(of_file(source, "t", make), make.found)
    assert make.asked == 2
    assert [path.name for path in source.parent.iterdir()] == ["a.jsonl"]


@pytest.mark.parametrize("chunk", [8, module._CHUNK])
def test_a_cache_is_made_once(source, monkeypatch, chunk):
    monkeypatch.setattr(module, "_CHUNK", chunk)
    make = Maker(examples())
    for _ in range(2):
        store = of_file(source, "t", make, kept_from=0)
        assert same(store, make.found)
        assert isinstance(store._tokens, np.memmap)
    assert make.asked == 1
    assert sorted(path.name for path in cache_of(source).iterdir()) == sorted([ABOUT, TOKENS, TABLE])


def test_other_content_or_another_tokenizer_is_another_cache(source):
    first, second, third = (Maker(examples(seed=seed)) for seed in range(3))
    of_file(source, "t", first, kept_from=0)
    assert same(of_file(source, "another", second, kept_from=0), second.found)
    source.write_text("other content")
    assert same(of_file(source, "t", third, kept_from=0), third.found)


@pytest.mark.parametrize("name", [ABOUT, TOKENS, TABLE])
@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_a_damaged_cache_is_made_again(source, name, damage):
    make = Maker(examples())
    of_file(source, "t", make, kept_from=0)
    path = cache_of(source) / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()
    if damage != "gone":
        path.write_bytes(content if damage == "flip" else content[:-5])
    with pytest.warns(UserWarning, match=r"a\.jsonl: its cache .* is damaged and is made again"):
        store = of_file(source, "t", make, kept_from=0)
    assert same(store, make.found)
    assert make.asked == 2
    assert same(of_file(source, "t", make, kept_from=0), make.found)
    assert make.asked == 2


def test_a_cache_that_was_not_finished_is_not_there(source):
    def failing():
        yield from examples(10)
        raise ValueError("line 11")

    with pytest.raises(ValueError, match="line 11"):
        of_file(source, "t", failing, kept_from=0)
    assert list(source.with_name("a.jsonl.loopos").iterdir()) == []


def test_a_place_that_cannot_be_written(source, tmp_path, monkeypatch):
    """Root writes everywhere: what makes folders is refused instead."""
    real = os.mkdir

    def mkdir(path, *args, **kwargs):
        if str(path).startswith(str(source.parent)):
            raise PermissionError(13, "read-only", str(path))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "mkdir", mkdir)
    make = Maker(examples())
    for _ in range(2):
        assert same(of_file(source, "t", make, kept_from=0), make.found)
    assert make.asked == 1
    assert [path.name for path in source.parent.iterdir()] == ["a.jsonl"]
    assert len(list((tmp_path / "home").iterdir())) == 1


@pytest.mark.parametrize("digest", ["t", None])
def test_nowhere_to_keep_it(source, monkeypatch, digest):
    """Without a place, and of a tokenizer that cannot be told from another, it lives as long as the store."""
    if digest is not None:

        def refused(path):
            raise PermissionError(13, "read-only", str(path))

        monkeypatch.setattr(module.durable, "make_folder", refused)
    make = Maker(examples())
    store = of_file(source, digest, make, kept_from=0)
    assert same(store, make.found)
    held = os.path.dirname(store._tokens.filename.parent)
    assert os.path.isdir(held)
    del store
    assert not os.path.exists(held)
    assert [path.name for path in source.parent.iterdir()] == ["a.jsonl"]


def test_a_folder_of_the_cache_that_was_made_meanwhile(source):
    make = Maker(examples())
    of_file(source, "t", make, kept_from=0)
    place = cache_of(source)
    kept = place.with_name("kept")
    place.rename(kept)

    def slow():
        shutil.copytree(kept, place)  # another process is faster
        yield from make.found

    assert same(of_file(source, "t", slow, kept_from=0), make.found)
    assert stat.S_ISDIR(place.stat().st_mode)


@pytest.mark.parametrize("chunk", [4, module._CHUNK])
@pytest.mark.parametrize("most", [1, 3, 100])
def test_counts(monkeypatch, chunk, most):
    monkeypatch.setattr(module, "_CHUNK", chunk)
    found = examples(200)
    end = 7
    counts = of_examples(found, "digest").counts(most, end)
    for i, each in enumerate(found):
        tokens = each.tokens[:most]
        learned = np.flatnonzero(tokens >= 0)
        assert counts.tokens[i] == len(tokens)
        assert counts.learned[i] == len(learned)
        assert counts.predicted[i] == int((learned > 0).sum())
        assert counts.ended[i] == bool(len(learned) and tokens[learned[-1]] == end)
    assert not of_examples(found, "digest").counts(most, None).ended.any()


def test_nothing():
    store = of_examples([], "digest")
    assert len(store) == 0
    assert [len(part) for part in store.counts(5, 1)] == [0, 0, 0, 0]


def test_pages_are_given_back(source, monkeypatch):
    monkeypatch.setattr(module, "HELD", 8)
    make = Maker(examples())
    store = of_file(source, "t", make, kept_from=0)
    released = []
    monkeypatch.setattr(type(store), "release", lambda self: released.append(setattr(self, "_read", 0)))
    assert same(store, make.found)
    assert len(released) > 10
