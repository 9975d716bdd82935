"""Lines of a file: what is no UTF-8 text is refused with its place."""

from __future__ import annotations

import pytest

from loopos.data.examples import lines as module
from loopos.data.examples.lines import lines


def read(tmp_path, content):
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    return list(lines(path, "data"))


def test_lines_and_their_numbers(tmp_path):
    content = "\ufeffa\r\n\n\u20ac b\nlast".encode()
    assert read(tmp_path, content) == [(1, "a\r\n"), (2, "\n"), (3, "\u20ac b\n"), (4, "last")]
    assert read(tmp_path, b"") == []


def test_bytes_read_are_told(tmp_path):
    path, seen = tmp_path / "a.jsonl", []
    path.write_bytes(b"ab\ncd")
    list(lines(path, "data", seen.append))
    assert seen == [3, 2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\n\0b\n", "data, line 2: expected text, got a byte of 0 at position 0 of the line"),
        (b"a\nb\xffc\n", "data, line 2: expected UTF-8, got byte 0xff at position 1 of the line"),
        ("a\n".encode("utf-16"), "data: expected lines of UTF-8 text; this is text in UTF-16"),
        (b"PK\x03\x04" + bytes(200), "data: expected lines of UTF-8 text; this is a ZIP archive"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, content)


def test_a_line_without_end_is_refused_before_it_fills_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_LINE", 100)
    assert read(tmp_path, b"x" * 99 + b"\n") == [(1, "x" * 99 + "\n")]
    with pytest.raises(ValueError, match=r"line 2: expected a line of at most 100 bytes.*line ends missing"):
        read(tmp_path, b"a\n" + b"x" * 101)


@pytest.mark.parametrize(
    "content", [b"", b"a", b"a\n", b"\n\n\n", b"\xef\xbb\xbfab\nc\n\ndefgh\n\nij", b"abcdefghijk\nl\n" * 5]
)
def test_shares_hold_every_line_once(content, tmp_path):
    whole = read(tmp_path, content)
    path = tmp_path / "a.jsonl"
    for of in (1, 2, 3, 5, 40):
        found, before = [], 0
        for index in range(of):
            own = list(lines(path, "data", None, (index, of), before))
            assert module.count_lines(path, (index, of)) == len(own)
            found, before = found + own, before + len(own)
        assert found == whole
