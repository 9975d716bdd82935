"""Pairs of answers to one prompt, of which one is preferred: {"prompt", "chosen", "rejected"}, texts or messages.

Of each pair two rows stand together, the chosen one first; targets are what follows the prompt, up to the end-of-text
token."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from loopos import checks
from loopos.data.held_out import IGNORE

from .data import ExampleData
from .encoding import Encoded, Encoder
from .forms import Example, completion_of
from .listed import Row

EXPECTED = '{"prompt", "chosen", "rejected"}'


class Pairs(NamedTuple):
    """groups: (chosen, rejected); places: where they came from; cut: pairs of which one was longer than seq_len;
    dropped: pairs left out, because nothing of an answer was left to compare."""

    groups: list[tuple[Row, Row]]
    places: list[str]
    cut: int
    dropped: int


def read(data: ExampleData, tokenizer: Any, *, seq_len: int) -> Pairs:
    """The pairs of ``data``, each row its first ``seq_len`` + 1 tokens, of which the last is a target alone. A record
    that is no pair, or no pair at all that can be compared: ValueError."""
    encoded = Encoder(tokenizer).encode(_examples(data))
    groups, places, cut, dropped, known = [], [], 0, 0, [where for where, _ in data.numbered()]
    for where, chosen, rejected in zip(known, encoded, encoded, strict=True):
        rows = _row(chosen, seq_len), _row(rejected, seq_len)
        cut += any(len(each.tokens) > seq_len + 1 for each in (chosen, rejected))
        if any((targets == IGNORE).all() for _, targets in rows):
            dropped += 1
            continue
        groups.append(rows)
        places.append(where)
    if not groups:
        raise ValueError(
            f"{data.name}: expected pairs such as {EXPECTED}, got {len(known)}, and of {dropped} nothing of an answer "
            f"is left within seq_len {seq_len}"
        )
    return Pairs(groups, places, cut, dropped)


def _examples(data: ExampleData) -> Iterator[tuple[int, Example, str]]:
    for number, (where, record) in enumerate(data.numbered()):
        if not isinstance(record, Mapping) or any(
            record.get(name) is None for name in ("prompt", "chosen", "rejected")
        ):
            got = checks.shown(", ".join(map(str, record)) if isinstance(record, Mapping) else record)
            raise ValueError(f"{where}: expected {EXPECTED}, got an object with {got}")
        for answer in ("chosen", "rejected"):
            yield number, completion_of(record["prompt"], record[answer], record.get("tools") or None, where), where


def _row(encoded: Encoded, seq_len: int) -> Row:
    coded = encoded.tokens[: seq_len + 1].astype(np.int64)
    ids, learned = np.where(coded >= 0, coded, ~coded), coded >= 0
    return ids[:-1], np.where(learned[1:], ids[1:], IGNORE)
