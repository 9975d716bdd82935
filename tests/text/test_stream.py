"""loopos/text/stream.py: joined, the pieces are the whole; none of them has a broken character."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopos.data.tokenizer import ByteTokenizer
from loopos.text import DecodeStream, Tokenizer


def pieces(stream, ids):
    return [*(stream.put(id) for id in ids), stream.flush()]


def test_a_character_comes_whole():
    text = "hé€😀 end"
    said = pieces(DecodeStream(ByteTokenizer().decode), text.encode())
    assert "".join(said) == text
    assert said[:4] == ["h", "", "é", ""]
    assert not any("\ufffd" in piece for piece in said)


@given(st.lists(st.integers(0, 255), max_size=40))
def test_any_bytes_give_the_text_of_all(ids):
    tokenizer = ByteTokenizer()
    assert "".join(pieces(DecodeStream(tokenizer.decode), ids)) == tokenizer.decode(ids)


def test_what_is_no_character_does_not_wait_for_ever():
    stream = DecodeStream(ByteTokenizer().decode)
    assert sum(len(stream.put(0x80)) for _ in range(1000)) > 900
    assert len(stream.flush()) < 100
    assert pieces(stream, b"ab") == ["a", "b", ""]  # it begins anew


@given(st.text(max_size=30))
def test_a_first_space_that_the_decoder_drops_comes_once(text):
    tokenizers = pytest.importorskip("tokenizers", reason="the extra [hf]")
    decoders = tokenizers.decoders
    vocabulary = {f"<0x{byte:02X}>": byte for byte in range(256)} | {"▁a": 256, "▁": 257, "b": 258}
    made = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, [], byte_fallback=True))
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer = Tokenizer(made)
    ids = [256, *text.encode(), 256, 257, 258, 256]
    said = pieces(tokenizer.stream(), ids)
    assert "".join(said) == tokenizer.decode(ids) == f"a{text} a b a"
