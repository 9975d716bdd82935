"""loopos/text/learning.py: a byte-level BPE learned from texts and files."""

import sys
import warnings

import pytest

from loopos import Tokenizer

TEXT = "the miller had three sons, his mill, his ass, and his cat. " * 20
HARD = "ünïcödé 你好 😀\r\n\t  \x00 <eos> 12345"


@pytest.fixture(autouse=True)
def _extra():
    pytest.importorskip("tokenizers", reason="the extra [hf]")


def test_any_text_round_trips_and_special_tokens_come_first():
    tokenizer = Tokenizer.train([TEXT], 265, ["<eos>", "<pad>", "<other>"])
    assert tokenizer.vocab_size == 265
    assert (tokenizer.eos, tokenizer.pad, tokenizer.bos) == (0, 1, None)
    assert tokenizer.decode(tokenizer.encode(HARD + TEXT)) == HARD + TEXT
    assert len(tokenizer.encode(TEXT)) < len(TEXT) * 0.9
    assert tokenizer.encode("<eos><other>") == [0, 2]


def test_texts_and_files_are_the_same(tmp_path):
    lines = "".join(f"{TEXT[i:]}\n" for i in range(50))
    path = tmp_path / "text.txt"
    path.write_text(lines, encoding="utf-8")
    forms = (lines, [lines], path, str(path), [path], iter([lines]))
    assert len({Tokenizer.train(form, 280).sha256 for form in forms}) == 1


def test_a_small_text_gives_fewer_and_says_so():
    with pytest.warns(UserWarning, match="the texts give 258 tokens, 300 were asked for"):
        assert Tokenizer.train(["ab ab"], 300).vocab_size == 258
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Tokenizer.train([], 256).vocab_size == 256


def test_what_it_refuses(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="at least 257, the bytes and 1 special tokens, got 256"):
        Tokenizer.train([TEXT], 256, ["<eos>"])
    with pytest.raises(TypeError, match="special_tokens must be a list of texts, got '<eos>'"):
        Tokenizer.train([TEXT], 300, "<eos>")
    with pytest.raises(ValueError, match="must differ from each other"):
        Tokenizer.train([TEXT], 300, ["<eos>", "<eos>"])
    with pytest.raises(TypeError, match="a text must be str or a path, got 3"):
        Tokenizer.train([3], 300)
    with pytest.raises(FileNotFoundError):
        Tokenizer.train([tmp_path / "none.txt"], 300)
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(ValueError, match=r"latin\.txt must be a UTF-8 text"):
        Tokenizer.train(tmp_path / "latin.txt", 300)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ImportError, match=r"pip install 'loopos\[hf\]'"):
        Tokenizer.train([TEXT], 300)
