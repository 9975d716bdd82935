"""Examples as people write them: objects with a text, a prompt and its completion, or messages. The names are those
that mlx-lm and trl read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from loopos import checks

FIELDS = ("text", "prompt", "completion", "messages", "tools")
EXPECTED = '{"text"}, {"prompt", "completion"} or {"messages"}'


class Text(NamedTuple):
    """All of it is learned."""

    text: str


class Completion(NamedTuple):
    """A prompt as it stands, and what follows it."""

    prompt: str
    completion: str


class Chat(NamedTuple):
    """messages: with role and content; assistant turns from index ``first`` on are learned; tools: for the template."""

    messages: list[dict[str, Any]]
    first: int = 0
    tools: Any = None


Example = Text | Completion | Chat
FORMS = (Text, Completion, Chat)
FORM_NAMES = ("text", "prompt and completion", "messages")


def check_columns(columns: Sequence[str], name: str) -> list[str]:
    """The columns of a table, unless none of them makes an example: ValueError."""
    columns = [str(column).strip() for column in columns]
    if len(set(columns)) < len(columns):
        raise ValueError(f"{name}: expected columns of different names, got {', '.join(columns)}")
    known = {"text"}, {"messages"}, {"prompt", "completion"}, {"prompt", "chosen", "rejected"}
    if not any(form <= set(columns) for form in known):
        raise ValueError(f"{name}: expected columns for {EXPECTED}, got the columns {checks.shown(', '.join(columns))}")
    return columns


def example_of(record: Any, where: str) -> Example:
    """What a record says; other names in it are ignored. Of several forms the first counts: prompt and completion,
    messages, text. A record of no form, or a value of another type: ValueError beginning with ``where``."""
    if not isinstance(record, Mapping):
        raise ValueError(f"{where}: expected an object such as {EXPECTED}, got {checks.shown(record)}")
    tools = record.get("tools") or None
    if record.get("prompt") is not None and record.get("completion") is not None:
        return completion_of(record["prompt"], record["completion"], tools, where)
    if record.get("messages") is not None:
        return Chat(_messages(record["messages"], f"{where}: messages"), tools=tools)
    if record.get("text") is not None:
        return Text(_string(record["text"], f"{where}: text"))
    hint = ""
    if "conversations" in record:
        hint = '; name the list "messages", and in it "from" and "value" "role" and "content"'
    elif "prompt" in record or "completion" in record:
        hint = "; a prompt needs its completion, and a completion its prompt"
    named = ", ".join(map(str, record)) or "no names"
    raise ValueError(f"{where}: expected {EXPECTED}, got an object with {checks.shown(named)}{hint}")


def completion_of(prompt: Any, completion: Any, tools: Any, where: str) -> Example:
    """A prompt and what follows it: two texts, or two lists of messages; else ValueError beginning with ``where``."""
    if isinstance(prompt, str) and isinstance(completion, str):
        return Completion(_string(prompt, f"{where}: prompt"), _string(completion, f"{where}: completion"))
    if isinstance(prompt, str) or isinstance(completion, str):
        raise ValueError(
            f"{where}: expected prompt and completion to be two texts or two lists of messages, got "
            f"{checks.shown(prompt)} and {checks.shown(completion)}"
        )
    before, after = _messages(prompt, f"{where}: prompt"), _messages(completion, f"{where}: completion")
    return Chat(before + after, len(before), tools)


def _messages(value: Any, where: str) -> list[dict[str, Any]]:
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise ValueError(f"{where}: expected a list of messages with role and content, got {checks.shown(value)}")
    if not value:
        raise ValueError(f"{where}: expected at least one message, got an empty list")
    return [_message(each, f"{where}[{at}]") for at, each in enumerate(value)]


def _message(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f'{where}: expected a message such as {{"role", "content"}}, got {checks.shown(value)}')
    message = {str(key): each for key, each in value.items() if each is not None}  # a table fills what is absent
    if "role" not in message:
        raise ValueError(f"{where}: expected a message with a role, got {checks.shown(', '.join(message))}")
    message["role"] = _string(message["role"], f"{where}.role")
    if "content" in message:
        message["content"] = _content(message["content"], f"{where}.content")
    elif message.get("tool_calls"):
        message["content"] = ""
    else:
        raise ValueError(f"{where}: expected a message with content, got {checks.shown(', '.join(message))}")
    return message


def _content(value: Any, where: str) -> str:
    """A text, or a list of parts that are texts."""
    if not isinstance(value, list):
        return _string(value, where)
    parts = []
    for at, part in enumerate(value):
        if not isinstance(part, Mapping) or part.get("type") != "text":
            raise ValueError(
                f'{where}[{at}]: expected a part such as {{"type": "text", "text"}}, got {checks.shown(part)}'
            )
        parts.append(_string(part.get("text"), f"{where}[{at}].text"))
    return "".join(parts)


def _string(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{where}: expected a text, got {checks.shown(value)}")
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError(
                f"{where}: expected whole characters, got U+{ord(value[error.start]):04X} at position {error.start}, "
                "which is half of one"
            ) from None
    return value
