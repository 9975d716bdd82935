"""Questions with known answers, out of JSONL files."""

from __future__ import annotations

import json
import os
import string
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from loopos import checks
from loopos.files import kinds

_Example = TypeVar("_Example")


class Choice(NamedTuple):
    """answer: the index of the right one."""

    context: str
    choices: tuple[str, ...]
    answer: int


class Exact(NamedTuple):
    """prompt: a text, or the messages before the answer; completion: the right answer."""

    prompt: str | tuple[Mapping[str, Any], ...]
    completion: str


def read_choices(path: str | os.PathLike) -> list[Choice]:
    """Lines of {"context" or "question", "choices", "answer"}: two or more texts, and the index from 0 or the letter of
    the right one. With both "context" and "question", the context, a line break and the question."""
    return _read(path, _choice)


def read_exact(path: str | os.PathLike) -> list[Exact]:
    """Lines of {"prompt", "completion"}, or of {"messages"} whose last is the assistant's, the answer."""
    return _read(path, _exact)


def _read(path: str | os.PathLike, parse: Callable[[Mapping[str, Any]], _Example]) -> list[_Example]:
    """ValueError naming file and line for a line that is no example; the same for a file without one."""
    found = []
    for number, line in _lines(Path(path)):
        try:
            values = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"{path}, line {number}: not JSON: {error}") from None
        if not isinstance(values, dict):
            raise ValueError(f"{path}, line {number}: expected a JSON object, got {checks.shown(values)}")
        try:
            found.append(parse(values))
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from None
    if not found:
        raise ValueError(f"{path}: expected a JSON object a line, got a file without any")
    return found


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    data = path.read_bytes()
    if (kind := kinds.kind_of(data[: kinds.HEAD])) is not None:
        raise ValueError(f"{path}: expected JSON lines; this is {kind}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected UTF-8, got byte {data[error.start]:#04x} at {error.start}") from None
    return ((number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip())


def _choice(values: Mapping[str, Any]) -> Choice:
    context = "\n".join(_text(values, name) for name in ("context", "question") if name in values)
    if not ("context" in values or "question" in values):
        raise ValueError(f"expected context or question, choices and answer, got {', '.join(values) or 'nothing'}")
    choices, answer = values.get("choices"), values.get("answer")
    if not isinstance(choices, list) or len(choices) < 2 or not all(isinstance(c, str) and c for c in choices):
        raise ValueError(f"choices must be a list of two or more texts, got {checks.shown(choices)}")
    if isinstance(answer, str) and len(answer.strip()) == 1 and answer.strip().upper() in string.ascii_uppercase:
        answer = string.ascii_uppercase.index(answer.strip().upper())
    if isinstance(answer, bool) or not isinstance(answer, int) or not 0 <= answer < len(choices):
        last = string.ascii_uppercase[min(len(choices), 26) - 1]
        raise ValueError(
            f"answer must be an index from 0 to {len(choices) - 1} or a letter from A to {last}, got "
            f"{checks.shown(values.get('answer'))}"
        )
    return Choice(context, tuple(choices), answer)


def _exact(values: Mapping[str, Any]) -> Exact:
    if "messages" not in values:
        if not {"prompt", "completion"} <= set(values):
            raise ValueError(f"expected prompt and completion, or messages, got {', '.join(values) or 'nothing'}")
        return Exact(_text(values, "prompt"), _text(values, "completion"))
    messages = values["messages"]
    if not isinstance(messages, list) or len(messages) < 2 or not all(isinstance(each, dict) for each in messages):
        raise ValueError(f"messages must be a list of two or more objects, got {checks.shown(messages)}")
    if messages[-1].get("role") != "assistant" or not isinstance(messages[-1].get("content"), str):
        raise ValueError("the last of messages must be a text of role assistant, the answer that is expected")
    return Exact(tuple(messages[:-1]), messages[-1]["content"])


def _text(values: Mapping[str, Any], name: str) -> str:
    if not isinstance(values[name], str):
        raise ValueError(f"{name} must be a text, got {checks.shown(values[name])}")
    return values[name]
