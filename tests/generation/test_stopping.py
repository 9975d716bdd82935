"""Where a text ends: ends of every kind, across the borders of tokens, with no broken character on the way."""

from __future__ import annotations

import pytest

from loopos.data.tokenizer import ByteTokenizer
from loopos.generation import Stops, Watch


def stops(stop=None, eos=None):
    return Stops.checked("f", stop, eos, vocab_size=256, tokenizer=ByteTokenizer())


def run(text, stop=None, eos=None):
    """(pieces until it ends, how many bytes were put)."""
    watch, pieces = Watch(stops(stop, eos), ByteTokenizer()), []
    for number, byte in enumerate(text.encode(), 1):
        pieces.append(watch.put(byte))
        if watch.ended:
            return pieces, number
    return [*pieces, watch.flush()], number


def test_what_a_caller_may_give():
    assert stops() == Stops()
    assert not stops()
    assert stops("ab") == stops(["ab"]) == Stops(strings=("ab",))
    assert stops([1, 2]) == stops([[1, 2]]) == Stops(sequences=((1, 2),))
    assert stops(["ab", (3,), "c"]) == Stops(sequences=((3,),), strings=("ab", "c"))
    assert stops(eos=7) == stops(eos=[7]) == Stops(eos=(7,))
    for wrong in ("", [], [[]], ["a", ""]):
        with pytest.raises(ValueError, match="empty string or sequence"):
            stops(wrong)
    for wrong, error in (
        (3.5, TypeError),
        ([1.5], TypeError),
        ([True], TypeError),
        ([256], ValueError),
        (b"a", TypeError),
    ):
        with pytest.raises(error, match=r"^f: stop must be"):
            stops(wrong)
    with pytest.raises(ValueError, match="there is no tokenizer to look for it with"):
        Stops.checked("f", "a", None, vocab_size=9, tokenizer=None)


@pytest.mark.parametrize("text", ["plain", "naïve — 日本語 🙂🙂 end", "a\N{COMBINING ACUTE ACCENT}b"])
def test_the_pieces_are_the_text_and_never_half_a_character(text):
    pieces, _ = run(text, stop=["🙂x", "never"])
    assert "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces)


def test_a_stop_string_is_found_across_tokens_and_left_out():
    pieces, put = run("Hello 日本 END of it", stop=["EN", "END"])
    assert "".join(pieces) == "Hello 日本 "
    assert put == len("Hello 日本 EN".encode())
    assert run("aab and on", stop="ab") == (["", "a", ""], 3) or "".join(run("aab and on", stop="ab")[0]) == "a"
    assert "".join(run("xx\n\nUser: more", stop=["\n\nUser:"])[0]) == "xx"
    # What began like one and went on otherwise is told after all.
    assert "".join(run("ababac!", stop="abac")[0]) == "ab"
    assert "".join(run("abab!", stop="abac")[0]) == "abab!"
    assert "".join(run("ends in EN", stop="END")[0]) == "ends in EN"


def test_text_is_held_back_for_no_longer_than_it_must():
    watch = Watch(stops("END"), ByteTokenizer())
    assert [watch.put(byte) for byte in b"a E N"] == ["a", " ", "", "E ", "N"]


def test_an_end_of_text_token_ends_it_and_gives_no_text():
    pieces, put = run("abcd", eos=[ord("c"), ord("z")])
    assert pieces == ["a", "b", ""]
    assert put == 3
    watch = Watch(stops("bx", ord("c")), ByteTokenizer())
    assert [watch.put(byte) for byte in b"abc"] == ["a", "", "b"]  # what was held back comes with it
    assert watch.ended


def test_a_sequence_of_ids_ends_it():
    pieces, put = run("abcabd", stop=[list(b"abd")])
    assert "".join(pieces) == "abcabd"
    assert put == 6
    without = Watch(Stops(sequences=((1, 1, 2), (5,))))
    assert [without.put(id) for id in (1, 1, 1, 2)] == [""] * 4
    assert without.ended


@pytest.mark.parametrize("stop", [None, "zz"])
def test_an_id_that_is_no_token_has_no_text(stop):
    """A vocabulary of 300 with a tokenizer of 256, as models with a rounded vocabulary have."""
    watch = Watch(Stops.checked("f", stop, 299, vocab_size=300, tokenizer=ByteTokenizer()), ByteTokenizer())
    assert watch.prime([256]) == ""
    assert "".join([watch.put(id) for id in (97, 280, 98, 0xC3, 290, 0xA4, 256, 299)]) == "abä"
    assert watch.ended
