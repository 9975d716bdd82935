"""Several processes make the tokens of examples: what one makes, no record twice. Threads stand for the processes."""

from __future__ import annotations

import json
import shutil
import socket
import threading
from collections import Counter

import numpy as np
import pytest
from example_tokens import LetterTokenizer
from in_threads import in_each

from loopos.data.examples import encoding, together
from loopos.data.examples import store as module
from loopos.data.examples.data import find
from loopos.data.examples.rows import Examples

RECORDS = [{"prompt": "p" * (i % 5 + 1), "completion": "äbc"[i % 3] * (1 + i * i % 23)} for i in range(101)]


@pytest.fixture
def encoded(monkeypatch, tmp_path):
    """The numbers of the records that each rank turns into tokens."""
    monkeypatch.setenv(module.CACHE_DIR, str(tmp_path / "home"))
    found = {}
    prepare = encoding.Encoder._prepare

    def counted(self, number, example, where):
        found.setdefault(threading.current_thread().name, []).append(number)
        return prepare(self, number, example, where)

    monkeypatch.setattr(encoding.Encoder, "_prepare", counted)
    return found


def written(path, mark=""):
    lines = [json.dumps(each, ensure_ascii=False) for each in RECORDS]
    lines[17:17] = ["", "  "]
    path.write_text(mark + "\n".join(lines), encoding="utf-8")
    return path


def content(path):
    return {each.relative_to(path): each.read_bytes() for each in path.rglob("*") if each.is_file()}


def table(store):
    return [(store.tokens(i, 99).tolist(), int(store.numbers[i]), int(store.causes[i])) for i in range(len(store))]


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("size", [2, 3, 4])
def test_the_cache_is_that_of_one_process_and_no_record_is_read_twice(size, kept, encoded, tmp_path, monkeypatch):
    if kept:
        monkeypatch.setattr(module, "KEPT_FROM", 0)
        monkeypatch.setattr(together, "KEPT_FROM", 0)
    (tmp_path / "a").mkdir()
    one = written(tmp_path / "a" / "data.jsonl", "\ufeff")
    (alone,) = find(one).stores(LetterTokenizer())
    (tmp_path / "b").mkdir()
    copy = shutil.copy(one, tmp_path / "b" / "data.jsonl")
    encoded.clear()
    told = in_each(size, lambda ranks: find(copy).stores(LetterTokenizer(), ranks=ranks))
    assert [table(stores[0]) for stores in told] == [table(alone)] * size
    assert {type(stores[0]._tokens) for stores in told} == {np.memmap if kept else np.ndarray}
    assert content(tmp_path / "b") == content(tmp_path / "a")
    assert len(encoded) == size
    assert Counter(number for numbers in encoded.values() for number in numbers) == Counter(alone.numbers.tolist())
    assert max(map(len, encoded.values())) < 1.3 * len(RECORDS) / size
    encoded.clear()  # now it is there, and open
    again = in_each(size, lambda ranks: find(copy).stores(LetterTokenizer(), ranks=ranks))
    assert [table(stores[0]) for stores in again] == [table(alone)] * size
    assert not encoded


def test_a_list_is_shared_out_too(encoded):
    (alone,) = find(RECORDS).stores(LetterTokenizer())
    encoded.clear()
    told = in_each(3, lambda ranks: find(RECORDS).stores(LetterTokenizer(), ranks=ranks))
    assert [(table(stores[0]), stores[0].digest) for stores in told] == [(table(alone), alone.digest)] * 3
    assert sorted(number for numbers in encoded.values() for number in numbers) == list(range(len(RECORDS)))


def test_every_machine_makes_its_own_where_they_share_a_folder(encoded, tmp_path, monkeypatch):
    monkeypatch.setattr(together, "KEPT_FROM", 0)
    monkeypatch.setattr(socket, "gethostname", lambda: "ab"[int(threading.current_thread().name) // 2])
    path = written(tmp_path / "data.jsonl")
    told = in_each(4, lambda ranks: find(path).stores(LetterTokenizer(), ranks=ranks))
    assert len({repr(table(stores[0])) for stores in told}) == 1
    assert sum(map(len, encoded.values())) == 2 * len(RECORDS)
    assert [each.name for each in (tmp_path / "data.jsonl.loopos").iterdir()] == [told[0][0].folder.name]


def test_a_tokenizer_that_cannot_be_told_shares_a_folder_that_goes_with_the_store(encoded, tmp_path, monkeypatch):
    monkeypatch.setattr(together, "KEPT_FROM", 0)

    class Own:
        vocab_size = 300

        def encode(self, text):
            return [ord(each) % 250 for each in text]

        def decode(self, ids):
            return ""

    path = written(tmp_path / "data.jsonl")
    told = in_each(2, lambda ranks: find(path).stores(Own(), ranks=ranks))
    assert table(told[0][0]) == table(told[1][0])
    assert sum(map(len, encoded.values())) == len(RECORDS)
    folder = told[0][0].folder.parent
    assert folder.is_dir()
    del told
    assert not folder.exists()
    assert [each.name for each in tmp_path.iterdir()] == ["data.jsonl"]


@pytest.mark.parametrize("kept", [True, False])
def test_what_is_wrong_is_said_as_one_process_says_it(kept, encoded, tmp_path, monkeypatch):
    if kept:
        monkeypatch.setattr(together, "KEPT_FROM", 0)
    path = written(tmp_path / "data.jsonl")
    lines = path.read_text().split("\n")
    lines[60], lines[90] = "{broken", "worse"
    path.write_text("\n".join(lines))
    with pytest.raises(ValueError, match="line 61") as alone:
        find(path).stores(LetterTokenizer())
    told = in_each(4, lambda ranks: find(path).stores(LetterTokenizer(), ranks=ranks))
    assert [(type(each), str(each)) for each in told] == [(ValueError, str(alone.value))] * 4
    assert not list(tmp_path.glob("data.jsonl.loopos/*"))


def test_another_file_on_a_rank_is_not_mixed_in(encoded, tmp_path):
    paths = [written(tmp_path / "a.jsonl"), written(tmp_path / "b.jsonl")]
    paths[1].write_text(paths[1].read_text().replace("b", "c", 1))
    told = in_each(2, lambda ranks: find(paths[ranks.rank]).stores(LetterTokenizer(), ranks=ranks))
    assert [str(each) for each in told] == ["another training data (their SHA-256)"] * 2
    lists = RECORDS, [*RECORDS[:-1], {"text": "another"}]
    told = in_each(2, lambda ranks: find(lists[ranks.rank]).stores(LetterTokenizer(), ranks=ranks))
    assert [str(each) for each in told] == ["another training data (their SHA-256)"] * 2
    assert not encoded


@pytest.mark.parametrize("part", [(0.0, 1.0), (0.2, 0.7)])
def test_counts_and_the_highest_id_are_found_by_parts(part, tmp_path):
    (store,) = find(RECORDS).stores(LetterTokenizer())
    other = find([{"text": "xyz"}] * 3).stores(LetterTokenizer())[0]

    def opened():
        return Examples([store, other], seq_len=9, part=part, end=1)

    alone = opened().counts
    for size in (2, 5):
        for examples in in_each(size, lambda ranks: [each := opened(), each.count(ranks)][0]):
            for got, want in zip(examples.counts, alone, strict=True):
                np.testing.assert_array_equal(got, want)
    with pytest.raises(IndexError) as said:
        opened().check_ids(5)
    told = in_each(3, lambda ranks: opened().check_ids(5, ranks))
    assert [(type(each), str(each)) for each in told] == [(IndexError, str(said.value))] * 3
