"""What a record says."""

from __future__ import annotations

import pytest

from loopos.data.examples.forms import Chat, Completion, Text, example_of

TURN = {"role": "assistant", "content": "b"}
ASKED = {"role": "user", "content": "a"}


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
