"""The body of a request, checked field by field.

A field that would change the answer and is not computed here is refused by name; one that is bookkeeping is let
through. Names and defaults are those of the OpenAI API; top_k, min_p and repetition_penalty are what other servers
added to it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from loopos.checks import shown

from .errors import Refused

MAX_PROMPTS, MAX_CHOICES, MAX_STOPS = 16, 8, 8
ROLES = ("system", "developer", "user", "assistant", "tool")

BOOKKEEPING = frozenset("user metadata store service_tier safety_identifier prompt_cache_key stream_options".split())  # noqa: SIM905
NEUTRAL: dict[str, tuple[Any, ...]] = {  # fields that are not computed, with the values that ask for nothing
    "presence_penalty": (0, 0.0, None),
    "frequency_penalty": (0, 0.0, None),
    "logit_bias": ({}, None),
    "logprobs": (False, None),
    "top_logprobs": (0, None),
    "best_of": (1, None),
    "suffix": ("", None),
    "echo": (False, None),
    "tools": ([], None),
    "functions": ([], None),
    "tool_choice": ("none", "auto", None),
    "parallel_tool_calls": (True, False, None),
    "response_format": ({"type": "text"}, None),
    "modalities": (["text"], None),
    "reasoning_effort": ("none", None),
}


@dataclass(frozen=True)
class Request:
    """prompts: texts or lists of token ids, each to be continued; or messages, for a chat. max_tokens None: as many as
    the context and the server's limit allow. seed None: another for each request."""

    prompts: tuple[str | tuple[int, ...], ...] = ()
    messages: tuple[Mapping[str, str], ...] = ()
    model: str | None = None
    max_tokens: int | None = None
    choices: int = 1
    stream: bool = False
    usage: bool = False  # of a stream: its last piece says how many tokens there were
    seed: int | None = None
    stop: tuple[str, ...] = ()
    sampling: Mapping[str, Any] = field(default_factory=dict)  # temperature, top_p and what else was given


def parse_json(body: bytes) -> dict[str, Any]:
    """The object in ``body``; NaN, infinities and nesting without end are no JSON."""

    def constant(name: str) -> Any:
        raise ValueError(f"{name} is no JSON number")

    try:
        values = json.loads(body.decode("utf-8"), parse_constant=constant)
    except (ValueError, RecursionError) as error:
        what = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise Refused(400, f"the body is not JSON: {what}") from None
    if not isinstance(values, dict):
        raise Refused(400, f"the body must be a JSON object, got {shown(values)}")
    return values


def completion(values: Mapping[str, Any]) -> Request:
    """Of POST /v1/completions."""
    return _request(values, {"prompt"}, prompts=_prompts(values.get("prompt")), default=16)


def chat(values: Mapping[str, Any]) -> Request:
    """Of POST /v1/chat/completions."""
    return _request(values, {"messages"}, messages=_messages(values.get("messages")), default=None)


def _request(values: Mapping[str, Any], own: set[str], default: int | None, **what: Any) -> Request:
    take = _Taker(values)
    sampling = {
        "temperature": take.real("temperature", 1.0, low=0, high=100),
        "top_p": take.real("top_p", 1.0, above=0, high=1),
        "top_k": take.integer("top_k", None, low=1),
        "min_p": take.real("min_p", None, low=0, high=1),
        "repetition_penalty": take.real("repetition_penalty", 1.0, above=0, high=100),
    }
    limits = [take.integer(name, None, low=1) for name in ("max_completion_tokens", "max_tokens")]
    options = values.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise Refused(400, f"stream_options must be an object, got {shown(options)}", param="stream_options")
    request = Request(
        **what,
        model=take.text("model"),
        max_tokens=next((limit for limit in limits if limit is not None), default),
        choices=take.integer("n", 1, low=1, high=MAX_CHOICES) or 1,
        stream=take.flag("stream"),
        usage=bool((options or {}).get("include_usage")),
        seed=take.integer("seed", None, low=-(2**63), high=2**64 - 1),
        stop=_stops(take.value("stop")),
        sampling={name: value for name, value in sampling.items() if value is not None},
    )
    _refuse_others(values, take.taken | own)
    return request


class _Taker:
    """Fields of one body by name and type; null is as good as absent."""

    def __init__(self, values: Mapping[str, Any]):
        self.values, self.taken = values, set[str]()

    def value(self, name: str) -> Any:
        self.taken.add(name)
        return self.values.get(name)

    def integer(self, name: str, default: int | None, *, low: int, high: int | None = None) -> int | None:
        value = self.value(name)
        if value is None:
            return default
        if type(value) is not int or value < low or (high is not None and value > high):
            most = "" if high is None else f" and at most {high}"
            raise Refused(400, f"{name} must be an integer of at least {low}{most}, got {shown(value)}", param=name)
        return value

    def real(
        self, name: str, default: float | None, *, low: float = 0, above: float | None = None, high: float
    ) -> float | None:
        value = self.value(name)
        if value is None:
            return default
        fits = type(value) in (int, float) and value <= high  # NaN is not, and an integer may be too large for a float
        if not fits or (value <= above if above is not None else value < low):
            least = f"above {above}" if above is not None else f"at least {low}"
            raise Refused(400, f"{name} must be a number {least} and at most {high}, got {shown(value)}", param=name)
        return float(value)

    def flag(self, name: str) -> bool:
        value = self.value(name)
        if value not in (None, True, False) or (isinstance(value, int | float) and not isinstance(value, bool)):
            raise Refused(400, f"{name} must be true or false, got {shown(value)}", param=name)
        return bool(value)

    def text(self, name: str) -> str | None:
        value = self.value(name)
        if value is not None and not isinstance(value, str):
            raise Refused(400, f"{name} must be a string, got {shown(value)}", param=name)
        return value


def _prompts(value: Any) -> tuple[str | tuple[int, ...], ...]:
    """A text, a list of texts, a list of ids, or a list of such lists."""
    expected = "prompt must be a string, a list of strings, a list of token ids or a list of such lists"
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list) or not value:
        raise Refused(400, f"{expected}, got {shown(value)}", param="prompt")
    if all(type(item) is int for item in value):
        return (tuple(value),)
    if len(value) > MAX_PROMPTS:
        raise Refused(400, f"prompt may hold {MAX_PROMPTS} prompts at most, got {len(value)}", param="prompt")
    if all(isinstance(item, str) for item in value):
        return tuple(value)
    if all(isinstance(item, list) and item and all(type(i) is int for i in item) for item in value):
        return tuple(tuple(item) for item in value)
    raise Refused(400, f"{expected}, got {shown(value)}", param="prompt")


def _messages(value: Any) -> tuple[Mapping[str, str], ...]:
    if not isinstance(value, list) or not value:
        raise Refused(400, f"messages must be a list of at least one message, got {shown(value)}", param="messages")
    return tuple(_message(each, f"messages[{i}]") for i, each in enumerate(value))


def _message(value: Any, where: str) -> Mapping[str, str]:
    if not isinstance(value, dict):
        raise Refused(400, f"{where} must be an object with role and content, got {shown(value)}", param=where)
    role, content = value.get("role"), value.get("content")
    if role not in ROLES:
        raise Refused(400, f"{where}.role must be one of {', '.join(ROLES)}, got {shown(role)}", param=f"{where}.role")
    other = sorted(name for name in set(value) - {"role", "content", "name", "refusal"} if value[name])
    if other:
        raise Refused(400, f"{where}.{other[0][:64]} is not supported: a message has role and content", param=where)
    if isinstance(content, list):  # in parts, as clients for pictures send it
        texts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
        if len(texts) != len(content) or not all(isinstance(text, str) for text in texts):
            raise Refused(400, f"{where}.content may have parts of type text only", param=f"{where}.content")
        content = "".join(texts)
    if not isinstance(content, str):
        raise Refused(400, f"{where}.content must be a string, got {shown(content)}", param=f"{where}.content")
    return {"role": "system" if role == "developer" else role, "content": content}


def _stops(value: Any) -> tuple[str, ...]:
    stops = [value] if isinstance(value, str) else value or []
    fits = isinstance(stops, list) and all(isinstance(stop, str) and stop for stop in stops)
    if not fits or len(stops) > MAX_STOPS:
        expected = f"stop must be a string or a list of up to {MAX_STOPS} strings, none of them empty"
        raise Refused(400, f"{expected}, got {shown(value)}", param="stop")
    return tuple(stops)


def _refuse_others(values: Mapping[str, Any], known: set[str]) -> None:
    for name, value in values.items():
        if name in known or name in BOOKKEEPING:
            continue
        if name not in NEUTRAL:
            raise Refused(400, f"unknown field {shown(name)}", param=name[:64])
        if not any(type(value) is type(same) and value == same for same in NEUTRAL[name]):
            raise Refused(400, f"{name} is not supported: leave it out, got {shown(value)}", param=name)
