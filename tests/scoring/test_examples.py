"""JSON lines of questions: what is read, and what is said of lines that are none."""

from __future__ import annotations

import json

import pytest

from loopos.scoring.examples import Choice, Exact, read_choices, read_exact


@pytest.fixture
def written(tmp_path):
    def write(*lines):
        path = tmp_path / "examples.jsonl"
        path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
        return path

    return write


def test_choices_by_index_and_by_letter(written):
    path = written(
        {"question": "2 + 2?", "choices": ["3", "4"], "answer": 1},
        {"context": "Sums.", "question": "2 + 3?", "choices": ["5", "4", "3"], "answer": "A"},
        "",
        {"context": "x", "choices": ["y", "z"], "answer": "b"},
    )
    assert read_choices(path) == [
        Choice("2 + 2?", ("3", "4"), 1),
        Choice("Sums.\n2 + 3?", ("5", "4", "3"), 0),
        Choice("x", ("y", "z"), 1),
    ]


def test_prompts_and_messages(written):
    asked = {"role": "user", "content": "hi"}
    path = written({"prompt": "a", "completion": "b"}, {"messages": [asked, {"role": "assistant", "content": "hello"}]})
    assert read_exact(path) == [Exact("a", "b"), Exact((asked,), "hello")]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "line 2: not JSON"),
        ("[1]", "line 2: expected a JSON object"),
        ({"choices": ["a", "b"], "answer": 0}, "expected context or question"),
        ({"question": 1, "choices": ["a", "b"], "answer": 0}, "question must be a text, got 1"),
        ({"question": "q", "choices": ["a"], "answer": 0}, "choices must be a list of two or more texts"),
        ({"question": "q", "choices": ["a", ""], "answer": 0}, "choices must be a list of two or more texts"),
        ({"question": "q", "choices": ["a", "b"], "answer": 2}, "answer must be an index from 0 to 1 or a letter"),
        ({"question": "q", "choices": ["a", "b"], "answer": True}, "answer must be an index from 0 to 1 or a letter"),
        ({"question": "q", "choices": ["a", "b"], "answer": "C"}, "a letter from A to B, got 'C'"),
        ({"question": "q", "choices": ["a", "b"]}, "answer must be an index"),
    ],
)
def test_a_line_that_is_no_question_is_named(written, line, says):
    path = written({"question": "q", "choices": ["a", "b"], "answer": 0}, line)
    with pytest.raises(ValueError, match="line 2") as raised:
        read_choices(path)
    assert says in str(raised.value)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ({"prompt": "a"}, "expected prompt and completion, or messages, got prompt"),
        ({"messages": []}, "messages must be a list of two or more objects"),
        ({"messages": [{"role": "user", "content": "a"}] * 2}, "the last of messages must be a text of role assistant"),
    ],
)
def test_a_line_without_an_answer_is_named(written, line, says):
    with pytest.raises(ValueError, match="line 1") as raised:
        read_exact(written(line))
    assert says in str(raised.value)


def test_files_that_hold_no_lines(written, tmp_path):
    with pytest.raises(ValueError, match="a file without any"):
        read_choices(written("", "  "))
    (tmp_path / "zip").write_bytes(b"PK\x03\x04" + bytes(99))
    with pytest.raises(ValueError, match="expected JSON lines; this is"):
        read_choices(tmp_path / "zip")
    (tmp_path / "latin").write_bytes(b'{"question": "caf\xe9"}')
    with pytest.raises(ValueError, match="expected UTF-8, got byte 0xe9"):
        read_choices(tmp_path / "latin")
