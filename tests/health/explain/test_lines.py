"""Bytes of any encoding become numbered lines, and the numbers are those that an editor shows."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopos.health.explain import lines
from loopos.health.explain.explain import explain


def read(source):
    notes: list[str] = []
    return list(lines.lines_of(source, notes)), notes


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_encodings_with_a_mark_and_without(encoding, end):
    found, _ = read(f"step 1 loss: 2.5{end}{end}step 2 loss: 2.25 é{end}".encode(encoding))
    assert found == [(1, "step 1 loss: 2.5"), (3, "step 2 loss: 2.25 é")]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_a_mark_is_named_as_what_it_is(encoding):
    _, notes = read("loss".encode(encoding))
    assert notes == [f"the text is {encoding.upper()}-LE, as PowerShell redirects it"]


def test_what_has_no_mark_is_told_by_its_zeros():
    assert read("step 1 loss 2.5\n".encode("utf-16-be"))[1] == ["the text is UTF-16-BE without a byte order mark"]
    assert read(b"\0" * 64)[1] == ["it holds NUL bytes: this is not, or not only, text"]


def test_a_part_that_a_shell_has_appended_in_another_encoding():
    found, notes = read(b"step 1 loss 2.5\n" + "step 2 loss 2.25\n".encode("utf-16-le"))
    assert found == [(1, "step 1 loss 2.5"), (2, "step 2 loss 2.25")]
    assert "NUL" in notes[0]


def test_one_line_that_is_not_utf8_leaves_the_others_alone():
    found, notes = read("第1轮 loss：2.5\n".encode() + "café\n".encode("cp1252") + "第2轮 loss：2.4，\n".encode("gbk"))
    assert [text for _, text in found] == ["第1轮 loss：2.5", "café", "第2轮 loss：2.4，"]
    assert notes == ["2 lines are not UTF-8 and were read as Windows-1252, GBK or Shift-JIS"]


@pytest.mark.parametrize(
    "text",
    [
        "\x1b[36m(pid=11)\x1b[0m 'loss': \x1b[1;36m2.5\x1b[0m",
        "[36m(pid=11)[0m 'loss': [1;36m2.5[0m",
        "^[[36m(pid=11)^[[0m 'loss': ^[[1;36m2.5^[[0m",
        r"\x1b[36m(pid=11)\x1b[0m 'loss': \033[1;36m2.5\u001b[0m",
        "\x1b]0;a title\x07(pid=11) 'loss': \x1b[38;2;255;0;0m2.5\x1b[K\x1b(B",
        "\ufeff(pid=11) 'loss': \u200b2.5",
    ],
)
def test_escape_sequences_and_what_cannot_be_seen_are_dropped(text):
    assert read(text)[0] == [(1, "(pid=11) 'loss': 2.5")]


def test_times_in_brackets_are_no_colours():
    assert read("50/50 [00:10<00:00, 41it/s] [3, 4]")[0] == [(1, "50/50 [00:10<00:00, 41it/s] [3, 4]")]


def test_what_a_bar_writes_over_itself_is_one_line():
    text = "first\n\r 1%| loss=3\r 2%| loss=2\n\nfourth\r\n  1/9 - loss: 2\b\b\b\b 2/9 - loss: 1\nlast"
    assert read(text)[0] == [
        (1, "first"),
        *[(2, " 1%| loss=3"), (2, " 2%| loss=2"), (4, "fourth")],
        *[(5, "  1/9 - loss: 2"), (5, " 2/9 - loss: 1"), (6, "last")],
    ]


@given(st.lists(st.sampled_from(["", " ", "a", "b\rc", "\x1b[1m\x1b[0m", "é" * 7, "\u2028x", "\x0by"])), st.booleans())
def test_numbers_are_those_of_an_editor(parts, windows):
    end = "\r\n" if windows else "\n"
    found, _ = read(end.join(parts))
    assert sorted({number for number, _ in found}) == [
        number for number, part in enumerate(parts, 1) if part.strip() and part[0] != "\x1b"
    ]


def test_explain_quotes_the_line_that_an_editor_shows():
    found = explain("first\n\n\nfourth\nepoch 1 loss: -nan\n").findings[0]
    assert found.evidence == ("line 5: epoch 1 loss: -nan",)


def test_numbers_hold_behind_what_was_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "HEAD", 1 << 17)
    monkeypatch.setattr(lines, "TAIL", 1 << 17)
    for encoding in ("utf-8", "utf-16-le", "utf-32"):
        path = tmp_path / "long.log"
        path.write_bytes("".join(f"line {i}\n\n" for i in range(1, 60_001, 2)).encode(encoding))
        found, notes = read(path)
        whole = [(number, text) for number, text in found if text.startswith("line ")]
        assert "the first and the last" in notes[-1]
        assert len(found) < 30_000
        assert len(found) - len(whole) <= 2  # what the two ends cut in pieces
        assert all(f"line {number}" == text for number, text in whole[:100] + whole[-100:])


def test_a_line_of_any_length_is_read_in_pieces_of_one_number():
    text = "a\n" + "".join(f"\r{i:5d}/100000 loss=2.5 " for i in range(20_000)) + "\n" + "x" * 300_000 + "\nlast"
    for source in (text, io.BytesIO(text.encode())):
        found, _ = read(source)
        assert max(len(piece) for _, piece in found) < 1 << 18
        assert sum(number == 2 for number, _ in found) == 20_000
        assert found[-1] == (4, "last")


def test_a_compressed_file_is_named():
    assert read(b"PK\x03\x04....")[1] == ["this is a compressed file; unpack it first"]


def test_text_that_is_open_is_read_as_its_bytes_are(tmp_path):
    path = tmp_path / "log"
    path.write_text("step 1 loss: 2.5 é\n")
    with path.open(encoding="latin-1") as file:
        assert read(file)[0] == read(path)[0] == read(io.StringIO("step 1 loss: 2.5 é\n"))[0]
