"""Chat templates: messages to the text that a model was trained on, by Jinja2 in its sandbox (extra [hf]).

A template comes with a model and is code of a stranger: it sees plain data alone, cannot reach Python's internals, and
is stopped when it runs long or writes much. Functions, filters and trimming are those that transformers gives to
templates, so the text is the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from loopos import checks

_REASONING = ("reasoning_content", "thinking", "reasoning")  # names of one field; templates read the first two
_DEEPEST = 100


class Rendered(NamedTuple):
    """text: of the whole chat; answers: the parts of it [start, end) that the template marks as written by the
    assistant ({% generation %}); empty for the many templates that mark nothing."""

    text: str
    answers: list[tuple[int, int]]


def render(
    template: str,
    messages: Sequence[Mapping[str, Any]],
    *,
    add_generation_prompt: bool = False,
    tools: Sequence[Mapping[str, Any]] | None = None,
    variables: Mapping[str, Any] | None = None,
) -> Rendered:
    """The chat of ``messages``, each at least {"role", "content"}, by ``template``.

    add_generation_prompt: end with the beginning of an answer. tools: as the template wants them, JSON schemas.
    variables: what else the template sees, special tokens for one. TypeError for messages that are no plain data,
    ValueError when the template cannot be read, refuses the messages or does what a template may not."""
    from .sandbox import run

    if isinstance(messages, str | bytes) or not isinstance(messages, Sequence):
        raise TypeError(f"apply_chat_template: messages must be a list of dicts, got {checks.shown(messages)}")
    if not messages:
        raise ValueError("apply_chat_template: messages must have at least one, got none")
    chat = []
    for at, message in enumerate(messages):
        if not isinstance(message, Mapping):
            raise TypeError(f"apply_chat_template: messages[{at}] must be a dict, got {checks.shown(message)}")
        chat.append(_aliased(_plain(message, f"messages[{at}]")))
    seen = {
        **_plain(variables or {}, "variables"),
        "messages": chat,
        "tools": None if tools is None else _plain(list(tools), "tools"),
        "documents": None,
        "add_generation_prompt": checks.boolean("apply_chat_template", "add_generation_prompt", add_generation_prompt),
    }
    return Rendered(*run(template, seen))


def _aliased(message: dict[str, Any]) -> dict[str, Any]:
    """Without the keys that say nothing, which many templates would write as "None"; and with an assistant's reasoning
    under the names that templates read."""
    message = {key: value for key, value in message.items() if value is not None}
    reasoning = next((message[name] for name in _REASONING if name in message), None)
    return message if reasoning is None else {"thinking": reasoning, **message, "reasoning_content": reasoning}


def _plain(value: Any, where: str, depth: int = 0) -> Any:
    """A copy of plain data. Objects have methods that a template must not reach."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    if depth > _DEEPEST:
        raise ValueError(f"apply_chat_template: {where} is nested more than {_DEEPEST} deep")
    if isinstance(value, Mapping):
        return {_plain(k, where, depth + 1): _plain(v, f"{where}[{k!r}]", depth + 1) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{i}]", depth + 1) for i, item in enumerate(value)]
    raise TypeError(
        f"apply_chat_template: {where} must be text, a number, true, false, null, a list or a dict, got "
        f"{checks.shown(value)}"
    )
