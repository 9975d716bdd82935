"""Records of files."""

from __future__ import annotations

import csv

import pytest

from loopos.data.examples.records import lines_before, records, unit


def read(tmp_path, name, content):
    path = tmp_path / name
    path.write_text(content, encoding="utf-8", newline="")
    return list(records(path, "data"))


def test_json_lines(tmp_path):
    content = '\ufeff{"text": "a"}\r\n\r\n   \n{"text": "b"}'
    assert read(tmp_path, "a.jsonl", content) == [(1, {"text": "a"}), (4, {"text": "b"})]
    assert read(tmp_path, "a.jsonl", "") == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "a"', "data, line 2: expected a JSON object .* got .*column 13"),
        ("{'text': 'a'}", "data, line 2: expected a JSON object"),
        ("[" * 100_000, "data, line 2: expected a JSON object"),
        ('{"text": ' + "9" * 10_000 + "}", "data, line 2: expected a JSON object"),
    ],
)
def test_a_line_that_is_no_json_is_refused_with_its_number(tmp_path, line, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, "a.jsonl", '{"text": "a"}\n' + line + "\n")


def test_csv(tmp_path):
    before = csv.field_size_limit()
    content = 'prompt,completion,x\r\na,"b, ""c""\r\nd",1\r\n\r\ne,' + "f" * 200_000 + ",2\r\n"
    first, second = read(tmp_path, "a.csv", content)
    assert first == (3, {"prompt": "a", "completion": 'b, "c"\r\nd', "x": "1"})
    assert second[1]["completion"] == "f" * 200_000
    assert csv.field_size_limit() == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2\n", r"data: expected columns for .* got the columns 'a, b'"),
        ("text,text\n1,2\n", "expected columns of different names, got text, text"),
        ("text\na,b\n", "data, line 2: expected 1 fields as the first line has, got 2"),
        ('text\n"a"b\n', "data, line 2: expected CSV"),
        ('text\n"a\n', "data, line 2: expected CSV"),
    ],
)
def test_bad_csv(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, "a.csv", content)


def test_units(tmp_path):
    assert unit(tmp_path / "a.PARQUET") == "row"
    assert unit(tmp_path / "a.jsonl") == unit(tmp_path / "a.csv") == "line"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", '\ufeff{"text": "a"}\n\n{"text": "bcdef"}\n' + '{"text": "g"}\n' * 7),
        ("a.csv", 'text,x\r\n"a\r\n\r\nb",1\r\n\r\n' + 'c,"2\n"\r\nddddd,3\r\n' * 4),
    ],
)
def test_shares_hold_every_record_once(name, content, tmp_path):
    whole = read(tmp_path, name, content)
    for of in (1, 2, 3, 7, 60):
        found, before = [], 0
        for index in range(of):
            found += records(tmp_path / name, "data", None, (index, of), before)
            before += lines_before(tmp_path / name, (index, of))
        assert found == whole
