"""loopos/serve/requests.py: every field is checked, and what is not computed is refused by name."""

import pytest

from loopos.serve import requests
from loopos.serve.errors import Refused

HELLO = [{"role": "user", "content": "hello"}]


def refused(function, values):
    with pytest.raises(Refused) as told:
        function(values)
    assert told.value.status == 400
    return told.value


def test_defaults():
    request = requests.completion({"prompt": "a"})
    assert request.max_tokens == 16
    assert request.sampling == {"temperature": 1.0, "top_p": 1.0, "repetition_penalty": 1.0}
    request = requests.chat({"messages": HELLO})
    assert request.max_tokens is None
    assert (request.choices, request.stream, request.usage, request.seed, request.stop) == (1, False, False, None, ())


def test_what_clients_send_and_does_not_matter():
    neutral = {"presence_penalty": 0, "frequency_penalty": 0.0, "logit_bias": {}, "logprobs": False, "tools": []}
    others = {"user": "me", "metadata": {"a": "b"}, "store": False, "response_format": {"type": "text"}, "stop": None}
    assert requests.chat({"messages": HELLO, **neutral, **others}).messages == tuple(HELLO)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("presence_penalty", 0.5),
        ("logit_bias", {"5": 100}),
        ("logprobs", True),
        ("tools", [{"type": "function"}]),
        ("response_format", {"type": "json_object"}),
        ("best_of", 2),
        ("guided_regex", "a*"),
    ],
)
def test_what_is_not_computed_is_refused_by_name(field, value):
    assert field in str(refused(requests.chat, {"messages": HELLO, field: value}))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tokens", 0),
        ("max_tokens", True),
        ("max_tokens", 2.0),
        ("temperature", -0.1),
        ("temperature", "hot"),
        ("temperature", 1e400),
        ("top_p", 0),
        ("top_p", 1.5),
        ("top_k", 0),
        ("min_p", 1.5),
        ("repetition_penalty", 0),
        ("n", 0),
        ("n", 9),
        ("seed", 2**64),
        ("stream", 1),
        ("stream", "yes"),
        ("stop", ""),
        ("stop", ["a"] * 9),
        ("stop", [1]),
        ("model", 5),
        ("stream_options", []),
    ],
)
def test_out_of_range_or_of_another_type(field, value):
    error = refused(requests.chat, {"messages": HELLO, field: value})
    assert error.param == field
    assert str(error).startswith(field)


@pytest.mark.parametrize("prompt", [None, 5, [], [1, "a"], [[]], [[1], "a"], [True], ["a"] * 17, {"a": 1}])
def test_prompts_that_are_none(prompt):
    assert refused(requests.completion, {"prompt": prompt}).param == "prompt"


def test_prompts():
    assert requests.completion({"prompt": ["a", "b"]}).prompts == ("a", "b")
    assert requests.completion({"prompt": [1, 2]}).prompts == ((1, 2),)
    assert requests.completion({"prompt": [[1], [2, 3]]}).prompts == ((1,), (2, 3))


@pytest.mark.parametrize(
    "message",
    [
        "hello",
        {"content": "a"},
        {"role": "god", "content": "a"},
        {"role": "user"},
        {"role": "user", "content": None},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]},
        {"role": "user", "content": ["a"]},
        {"role": "assistant", "content": "a", "tool_calls": [{}]},
    ],
)
def test_messages_that_are_none(message):
    assert "messages[1]" in str(refused(requests.chat, {"messages": [*HELLO, message]}))


def test_messages():
    parts = {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}
    told = requests.chat({"messages": [{"role": "developer", "content": "be brief"}, parts]}).messages
    assert told == ({"role": "system", "content": "be brief"}, {"role": "user", "content": "ab"})


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b'{"a": NaN}', b'{"a": -Infinity}', b"{" * 9999, b"\xff"])
def test_bodies_that_are_no_object(body):
    with pytest.raises(Refused):
        requests.parse_json(body)


def test_a_number_of_many_digits():
    with pytest.raises(Refused):
        requests.parse_json(b'{"a": ' + b"9" * 5000 + b"}")
