"""loopos/data/tokenizer.py: round trips, refusals, and what a checkpoint carries."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopos.data.tokenizer import ByteTokenizer, CharTokenizer, resolve, tokenizer_from_dict, tokenizer_to_dict

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


class Words:
    vocab_size = 2

    def encode(self, text):
        return [len(word) % 2 for word in text.split()]

    def decode(self, ids):
        return " ".join("ab"[i] for i in ids)


@given(TEXT)
def test_bytes_round_trip(text):
    ids = ByteTokenizer().encode(text)
    assert ids.dtype == np.int32
    assert ids.tolist() == list(text.encode("utf-8"))
    assert ByteTokenizer().decode(ids) == text
    assert ByteTokenizer().decode(ids.tolist()) == text


@given(st.binary(max_size=60))
def test_any_bytes_are_legal_ids(data):
    assert ByteTokenizer().encode(data).tolist() == list(data)
    assert ByteTokenizer().decode(list(data)) == data.decode("utf-8", errors="replace")


def test_a_character_cut_in_half_decodes_to_the_replacement():
    assert ByteTokenizer().decode(ByteTokenizer().encode("né")[:-1]) == "n\ufffd"


@given(TEXT.filter(bool))
def test_chars_round_trip_over_a_sorted_vocabulary(text):
    tokenizer = CharTokenizer(text)
    assert tokenizer.vocabulary == "".join(sorted(set(text)))
    assert tokenizer.vocab_size == len(set(text))
    ids = tokenizer.encode(text)
    assert ids.dtype == np.int32
    assert ids.tolist() == [sorted(set(text)).index(c) for c in text]
    assert tokenizer.decode(ids) == text


def test_an_unknown_character_is_named_with_its_position():
    tokenizer = CharTokenizer("abc")
    for text, char, at in (("abz", "z", 2), ("a\x00", "\\x00", 1), ("bb€a", "€", 2), ("😀", "😀", 0)):
        with pytest.raises(ValueError, match=f"position {at} ") as caught:
            tokenizer.encode(text)
        assert f"'{char}'" in str(caught.value)


@pytest.mark.parametrize(
    "make", [ByteTokenizer().encode, CharTokenizer, CharTokenizer("ab").encode], ids=["bytes", "build", "chars"]
)
def test_lone_surrogates_are_refused(make):
    with pytest.raises(ValueError, match=r"lone surrogate U\+D83D at position 2") as caught:
        make("ab\ud83d")
    assert not isinstance(caught.value, UnicodeError)


def test_an_empty_text():
    assert len(ByteTokenizer().encode("")) == 0
    assert len(CharTokenizer("a").encode("")) == 0
    assert ByteTokenizer().decode([]) == CharTokenizer("a").decode([]) == ""
    with pytest.raises(ValueError, match="at least one character, got an empty text"):
        CharTokenizer("")


@pytest.mark.parametrize("tokenizer", [ByteTokenizer(), CharTokenizer("abcd")])
def test_decode_refuses_ids_it_does_not_have(tokenizer):
    for bad in (tokenizer.vocab_size, -1, 2**62):
        with pytest.raises(IndexError, match=rf"id {bad} at position 1 is outside 0\.\.{tokenizer.vocab_size - 1}"):
            tokenizer.decode([0, bad])
    with pytest.raises(TypeError, match="ids must be integers, got float64"):
        tokenizer.decode([0.0])
    with pytest.raises(ValueError, match="one dimension"):
        tokenizer.decode(np.zeros((1, 2), np.int64))


def test_text_of_another_type():
    for call in (ByteTokenizer().encode, CharTokenizer("ab").encode, CharTokenizer):
        with pytest.raises(TypeError, match="text must be str"):
            call(3)


def test_resolve_by_name():
    assert resolve(None) == resolve("bytes") == ByteTokenizer()
    assert resolve("chars", "hello") == CharTokenizer("ehlo")
    with pytest.raises(ValueError, match="tokenizer must be one of 'bytes', 'chars', got 'bpe'"):
        resolve("bpe", "text")
    with pytest.raises(ValueError, match="'chars' makes its vocabulary from a text"):
        resolve("chars")


def test_resolve_takes_objects_as_they_are():
    words = Words()
    assert resolve(words) is words
    for bad in (object(), 3, Words, ["a"]):
        with pytest.raises(TypeError, match="encode, decode and vocab_size"):
            resolve(bad)
    words.vocab_size = "2"
    with pytest.raises(TypeError, match=r"tokenizer\.vocab_size must be an integer"):
        resolve(words)


@pytest.mark.parametrize("tokenizer", [ByteTokenizer(), CharTokenizer("héllo 😀\n\x00")], ids=["bytes", "chars"])
def test_a_checkpoint_gives_back_the_same_tokenizer(tokenizer):
    again = tokenizer_from_dict(json.loads(json.dumps(tokenizer_to_dict(tokenizer))))
    assert again == tokenizer
    assert hash(again) == hash(tokenizer)
    assert tokenizer_to_dict(again) == tokenizer.to_dict()


def test_tokenizers_differ():
    assert CharTokenizer("ab") != CharTokenizer("abc")
    assert CharTokenizer("ab") != ByteTokenizer()
    assert ByteTokenizer() != CharTokenizer("ab")


def test_a_custom_tokenizer_is_described_but_not_restored():
    described = tokenizer_to_dict(Words())
    assert described == {"kind": "custom", "class": "Words", "vocab_size": 2}
    with pytest.raises(ValueError, match=r"class 'Words'.*pass it again"):
        tokenizer_from_dict(described)
    assert tokenizer_to_dict(None) is None


@pytest.mark.parametrize(
    "values",
    [
        None,
        [],
        {},
        {"kind": 3},
        {"kind": "bpe"},
        {"kind": "chars"},
        {"kind": "chars", "vocabulary": ""},
        {"kind": "chars", "vocabulary": ["a", "b"]},
        {"kind": "chars", "vocabulary": "ba"},
        {"kind": "chars", "vocabulary": "aab"},
        {"kind": "chars", "vocabulary": "a\ud800"},
    ],
    ids=ascii,
)
def test_a_malformed_description_is_a_value_error(values):
    with pytest.raises(ValueError, match=r"tokenizer_from_dict: |lone surrogate"):
        tokenizer_from_dict(values)
