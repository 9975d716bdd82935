"""Several processes make the tokens of one file of text: those of one process, nothing twice on a machine. Threads
stand for the processes."""

from __future__ import annotations

import mmap
import socket
import threading
import time
from collections import Counter

import numpy as np
import pytest
from in_threads import in_each

import loopos
from loopos.data import shared_text
from loopos.data.examples import store, together
from loopos.data.reading import load, read
from loopos.data.sources import open_sources
from loopos.data.tokenizer import CharTokenizer, text_of

TEXT = "".join("aé漢😀\n"[i * i % 5] * (1 + i % 4) for i in range(211))
SIZES = dict(vocab_size=400, context_length=8)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch, tmp_path):
    monkeypatch.setenv(store.CACHE_DIR, str(tmp_path / "home"))
    monkeypatch.setattr(shared_text, "PIECE", 7)


@pytest.fixture(params=[True, False], ids=["kept", "small"])
def kept(request, monkeypatch):
    if request.param:
        monkeypatch.setattr(together, "KEPT_FROM", 0)
    return request.param


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "novel.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture
def encoded(monkeypatch):
    """By thread, where the parts begin that it turns into tokens."""
    found = {}
    encode = CharTokenizer.encode_part

    def counted(self, text, before):
        found.setdefault(threading.current_thread().name, []).append((before, len(text)))
        return encode(self, text, before)

    monkeypatch.setattr(CharTokenizer, "encode_part", counted)
    return found


@pytest.mark.parametrize("size", [2, 3, 5])
def test_characters_are_shared_out_and_cut_nowhere_within_one(size, kept, path, encoded):
    alone, tokenizer = load(path, "chars")
    encoded.clear()
    for ids, made in in_each(size, lambda ranks: load(path, "chars", ranks=ranks)):
        np.testing.assert_array_equal(ids, alone)
        assert made == tokenizer
        assert isinstance(ids, np.memmap) == kept
    parts = sorted(part for parts in encoded.values() for part in parts)
    assert [before for before, _ in parts] == np.cumsum([0, *(count for _, count in parts[:-1])]).tolist()
    assert sum(count for _, count in parts) == len(TEXT)
    shares = [sum(count for _, count in parts) for parts in encoded.values()]
    assert len(shares) == size
    assert max(shares) < 1.3 * len(TEXT) / size


def test_bytes_are_the_mapped_file_itself(path):
    alone, _ = load(path)
    for ids, _ in in_each(2, lambda ranks: load(path, ranks=ranks)):
        np.testing.assert_array_equal(ids, alone)
    assert [type(each.value) for each in in_each(2, lambda ranks: read(path, ranks=ranks))] == [mmap.mmap] * 2
    assert [each.name for each in path.parent.iterdir()] == ["novel.txt"]


class Slow:
    """A letter is a token, but two line ends are one."""

    vocab_size = 400

    def __init__(self):
        self.seen, self.sha256 = [], "slow"

    def encode(self, text):
        self.seen.append(threading.current_thread().name)
        time.sleep(0.3)
        return [ord(each) % 350 for each in text.replace("\n\n", "\t")]

    def decode(self, ids):
        return ""


def test_of_a_tokenizer_of_larger_pieces_one_process_of_a_machine_does_it_and_the_others_wait(path, kept, monkeypatch):
    monkeypatch.setattr(shared_text, "SIGN", 0.01)
    monkeypatch.setattr(shared_text, "Tokenizer", Slow)
    monkeypatch.setattr(socket, "gethostname", lambda: "ab"[int(threading.current_thread().name) // 2])
    tokenizer = Slow()
    alone = tokenizer.encode(TEXT)
    tokenizer.seen.clear()
    ticks = [0] * 4

    def own(ranks):
        source = open_sources(path, tokenizer=tokenizer, ranks=ranks, **SIZES)
        ticks[ranks.rank] = ranks.ticks
        return source.train.ids

    for ids in in_each(4, own):
        np.testing.assert_array_equal(ids, alone)
        assert isinstance(ids.base, np.memmap) == kept
    assert Counter(tokenizer.seen) == {"0": 1, "2": 1}
    assert min(ticks[0], ticks[2]) > 3
    assert ticks[1] == ticks[3] == 0


def test_a_real_tokenizer_gives_its_tokens(path, kept):
    pytest.importorskip("tokenizers")
    tokenizer = loopos.Tokenizer.train(TEXT, 270)
    for ids, _ in in_each(3, lambda ranks: load(path, tokenizer, ranks=ranks)):
        assert ids.tolist() == tokenizer.encode(TEXT)


@pytest.mark.parametrize("at", [0, 100, -3])
def test_what_is_no_utf8_is_said_as_one_process_says_it(at, kept, path):
    data = bytearray(TEXT.encode())
    data[at] = 0xFF
    path.write_bytes(data)
    for spec in "chars", CharTokenizer(TEXT):
        with pytest.raises(ValueError, match=r"byte 0x.. at position .* is not UTF-8") as alone:
            load(path, spec)
        told = in_each(3, lambda ranks, spec=spec: load(path, spec, ranks=ranks))
        assert [(type(each), str(each)) for each in told] == [(ValueError, str(alone.value))] * 3


def said_of(cuts, data):
    """What is wrong with the first of the parts that is no UTF-8."""
    for first, last in cuts:
        try:
            text_of("data", data[first:last], first)
        except ValueError as error:
            return str(error)
    return []


def test_wherever_bytes_are_cut_the_first_that_is_no_utf8_is_found(monkeypatch):
    random = np.random.default_rng(0)
    kinds = np.frombuffer(b"a\x80\xa9\xc3\xe6\xbc\xf0\x9f\x98\xff", np.uint8)
    for _ in range(300):
        data = random.choice(kinds, 24).tobytes()
        cuts = [cut for index in range(3) for cut in shared_text._cuts(data, (index, 3))]
        assert b"".join(data[first:last] for first, last in cuts) == data
        assert said_of([(0, len(data))], data) == said_of(cuts, data) != []


def test_a_character_that_the_vocabulary_lacks_has_the_place_that_one_process_tells(kept, path):
    path.write_text(TEXT + "x" + TEXT + "y", encoding="utf-8")
    with pytest.raises(ValueError, match=f"'x' .* at position {len(TEXT)} ") as alone:
        load(path, CharTokenizer(TEXT))
    told = in_each(3, lambda ranks: load(path, CharTokenizer(TEXT), ranks=ranks))
    assert [(type(each), str(each)) for each in told] == [(ValueError, str(alone.value))] * 3


@pytest.mark.parametrize("tokenizer", ["bytes", "chars"])
@pytest.mark.parametrize(("name", "what"), [("data", "training data"), ("eval_data", "held-out data")])
def test_another_text_on_a_rank_is_not_mixed_in(tokenizer, name, what, path, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text(TEXT.replace("a", "b", 1), encoding="utf-8")
    told = in_each(2, lambda ranks: load([path, other][ranks.rank], tokenizer, name, ranks))
    assert [str(each) for each in told] == [f"another {what} (their SHA-256)"] * 2


def test_an_empty_file_is_refused_as_by_one_process(path):
    path.write_text("")
    with pytest.raises(ValueError, match="0 tokens are too few") as alone:
        open_sources(path, **SIZES)
    told = in_each(2, lambda ranks: open_sources(path, ranks=ranks, **SIZES))
    assert [str(each) for each in told] == [str(alone.value)] * 2
