"""Records of files, and what each says."""

from __future__ import annotations

import csv

import pytest

from loopos.data.examples.records import Chat, Completion, Text, example_of, records, unit

TURN = {"role": "assistant", "content": "b"}
ASKED = {"role": "user", "content": "a"}


def read(tmp_path, name, content):
    path = tmp_path / name
    path.write_text(content, encoding="utf-8", newline="")
    return list(records(path, "data"))


@pytest.mark.parametrize(
    ("record", "example"),
    [
        ({"text": "a"}, Text("a")),
        ({"text": "", "id": 3}, Text("")),
        ({"prompt": "a", "completion": "b"}, Completion("a", "b")),
        ({"messages": [ASKED, TURN]}, Chat([ASKED, TURN])),
        ({"prompt": [ASKED], "completion": [TURN]}, Chat([ASKED, TURN], 1)),
        ({"messages": [ASKED], "tools": [{"name": "f"}]}, Chat([ASKED], 0, [{"name": "f"}])),
        ({"text": None, "prompt": "a", "completion": "b", "messages": None}, Completion("a", "b")),  # a table's rest
        ({"text": "t", "prompt": "a", "completion": "b", "messages": [TURN]}, Completion("a", "b")),  # mlx-lm's order
        ({"text": "t", "messages": [TURN]}, Chat([TURN])),
        ({"prompt": "a", "messages": [TURN]}, Chat([TURN])),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "c"}]}]},
            Chat([{"role": "user", "content": "ac"}]),
        ),
        (
            {"messages": [{"role": "assistant", "content": None, "tool_calls": [{"name": "f"}]}]},
            Chat([{"role": "assistant", "content": "", "tool_calls": [{"name": "f"}]}]),
        ),
    ],
)
def test_forms(record, example):
    assert example_of(record, "line 1") == example


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (3, r'line 1: expected an object such as \{"text"\}.*got 3'),
        ([], "line 1: expected an object"),
        ({}, "got an object with 'no names'"),
        ({"txt": "a"}, "got an object with 'txt'"),
        ({"text": 5}, "line 1: text: expected a text, got 5"),
        ({"text": ["a"]}, "line 1: text: expected a text, got"),
        ({"text": "\ud800"}, r"line 1: text: expected whole characters, got U\+D800 at position 0"),
        ({"prompt": "a"}, "a prompt needs its completion"),
        ({"prompt": "a", "completion": [TURN]}, "two texts or two lists of messages"),
        ({"prompt": 1, "completion": 2}, "line 1: prompt: expected a list of messages with role and content, got 1"),
        ({"messages": "a"}, "line 1: messages: expected a list of messages with role and content, got 'a'"),
        ({"messages": []}, "expected at least one message"),
        ({"messages": ["a"]}, r"line 1: messages\[0\]: expected a message"),
        ({"messages": [{"content": "a"}]}, r"messages\[0\]: expected a message with a role, got 'content'"),
        ({"messages": [ASKED, {"role": "user"}]}, r"messages\[1\]: expected a message with content, got 'role'"),
        ({"messages": [{"role": 1, "content": "a"}]}, r"messages\[0\].role: expected a text, got 1"),
        ({"messages": [{"role": "user", "content": {}}]}, r"messages\[0\].content: expected a text, got"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, r"content\[0\]: expected a part such as"),
        ({"conversations": [{"from": "human", "value": "a"}]}, 'name the list "messages", and in it "from"'),
    ],
)
def test_what_is_no_example_is_refused_with_its_place(record, message):
    with pytest.raises(ValueError, match=message):
        example_of(record, "line 1")


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
