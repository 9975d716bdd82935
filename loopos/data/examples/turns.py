"""Where the assistant's turns lie in a conversation, found by comparing renderings of the chat template.

A template is a program that nobody can look into, and most do not mark what the assistant said. So it is rendered more
than once. Of turn i of the messages m, with full = render(m):

- the plain case: render(m[:i]) with the beginning of an answer, and render(m[:i+1]), both begin full as well. What
  lies between is the turn: what a model is asked to write there, its end mark included.
- Where they do not (a template that takes the thoughts out of earlier turns, or one that puts before an answer what it
  leaves out of the full text), m is rendered with another text in place of turn i. What comes before and after the
  place where the two renderings differ is the template's, and what is between is the turn's text. Its end mark is what
  follows in render(m[:i+1]), where it follows in full too.
- Where what is between is not a piece of that turn's text, the place is not known, and nothing is claimed.

All of it is linear in the length of the renderings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

Render = Callable[[Sequence[dict[str, Any]], bool], str]  # messages, whether to begin an answer
ASSISTANT = ("assistant", "model")


class Rendered(NamedTuple):
    """text: of the whole conversation; spans: (start, end) of each turn that is learned, in characters, in order;
    unknown: indices of messages whose place is not known."""

    text: str
    spans: list[tuple[int, int]]
    unknown: list[int]


def rendered(render: Render, messages: list[dict[str, Any]], first: int = 0) -> Rendered:
    """The conversation with the turns of the assistant from message ``first`` on. ValueError of ``render`` for the
    whole comes out; one for a part of it is a rendering that there is not."""
    text = render(messages, False)
    spans, unknown = [], []
    for i in range(first, len(messages)):
        if messages[i]["role"] not in ASSISTANT:
            continue
        span = _span(render, messages, i, text)
        if span is None or (spans and span[0] < spans[-1][1]):
            unknown.append(i)
        elif span[1] > span[0]:
            spans.append(span)
    return Rendered(text, spans, unknown)


def _span(render: Render, messages: list[dict[str, Any]], i: int, full: str) -> tuple[int, int] | None:
    before = _tried(render, messages[:i], True) if i else None
    after = full if i == len(messages) - 1 else _tried(render, messages[: i + 1], False)
    begins = before is not None and full.startswith(before)
    if begins and after is not None and len(after) > len(before) and full.startswith(after):
        return len(before), len(after)

    place = _changed(render, messages, i, full)
    if place is None:
        return None
    start, end = place
    if begins and len(before) <= start:
        start = len(before)
    if after is not None and (other := _replaced(render, messages[: i + 1], i)) is not None:
        mark = after[len(after) - _common_suffix(after, other, 0) :]
        end += len(mark) if full.startswith(mark, end) else 0
    return start, end


def _changed(render: Render, messages: list[dict[str, Any]], i: int, full: str) -> tuple[int, int] | None:
    """(start, end) of the text of turn i in ``full``; None where it is not certain."""
    other = _replaced(render, messages, i)
    if other is None:
        return None
    start = common_prefix(full, other)
    behind = _common_suffix(full, other, start)
    end = len(full) - behind
    found = full[start:end].strip()
    certain = found and found in messages[i]["content"] and len(other) - behind - start == 1
    return (start, end) if certain else None


def _replaced(render: Render, messages: list[dict[str, Any]], i: int) -> str | None:
    """The rendering with turn i replaced by one letter, which the turn neither begins nor ends with."""
    said = messages[i]["content"]
    edges = {said[:1], said[-1:], said.strip()[:1], said.strip()[-1:]}
    letter = next(letter for letter in "qzxkj" if letter not in edges)
    return _tried(render, [*messages[:i], {**messages[i], "content": letter}, *messages[i + 1 :]], False)


def _common_suffix(a: str, b: str, start: int) -> int:
    """How many last characters two texts share that have the first ``start`` in common."""
    most = min(len(a), len(b)) - start
    return common_prefix(a[::-1][:most], b[::-1][:most])


def _tried(render: Render, messages: list[dict[str, Any]], begin: bool) -> str | None:
    try:
        return render(messages, begin)
    except ValueError:  # a template may refuse a part of a conversation: one without a user, say
        return None


def common_prefix(a: Sequence[Any], b: Sequence[Any]) -> int:
    """How many first elements two texts or lists share. Halves are compared as wholes: linear, and fast."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
