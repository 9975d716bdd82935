"""Texts with a label, for a classifier: {"text", "label"}. The target stands at the last token of a text, where a
causal model has read all of it, and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from loopos import checks
from loopos.data.held_out import IGNORE
from loopos.text.before import prompt_ids

from .data import ExampleData
from .listed import Row

TEXT = "text"
EXPECTED = '{"text", "label"}'


class Labelled(NamedTuple):
    """groups: of one row each; places: where they came from; labels: the names of the classes, in their order."""

    groups: list[tuple[Row]]
    places: list[str]
    labels: tuple[str, ...]


def read(
    data: ExampleData, tokenizer: Any, *, seq_len: int, column: str = "label", labels: Sequence[str] = ()
) -> Labelled:
    """The texts of ``data`` as rows of their first ``seq_len`` tokens. labels: the classes there are; (): those of the
    data, whole numbers by size, else in the order of their names. A label that is not among them, a record without text
    or label, a text without a token, fewer than two classes: ValueError that says where."""
    found = [_labelled(record, column, where) for where, record in data.numbered()]
    if not found:
        raise ValueError(f"{data.name}: expected texts with a label, got none; the file holds no record")
    names = tuple(labels) or names_of([label for _, label, _ in found])
    if len(names) < 2:
        raise ValueError(f"{data.name}: a classifier needs two classes and more, got {', '.join(names)} alone")
    number = {name: index for index, name in enumerate(names)}
    groups, places = [], []
    for text, label, where in found:
        if str(label) not in number:
            known = ", ".join(names)
            raise ValueError(f"{where}: {column} must be one of {known}, got {checks.shown(str(label))}")
        ids = np.array(prompt_ids(tokenizer, text)[:seq_len], np.int64)
        if not len(ids):
            raise ValueError(f"{where}: the text is empty: it has no token that a label could stand at")
        targets = np.full(len(ids), IGNORE, np.int64)
        targets[-1] = number[str(label)]
        groups.append(((ids, targets),))
        places.append(where)
    return Labelled(groups, places, names)


def names_of(labels: Sequence[Any]) -> tuple[str, ...]:
    """The classes of these labels, each once."""
    distinct = {str(label): label for label in labels}
    try:
        ordered = sorted(distinct, key=lambda name: int(distinct[name]))
    except ValueError:
        ordered = sorted(distinct)
    return tuple(ordered)


def _labelled(record: Any, column: str, where: str) -> tuple[str, Any, str]:
    if not isinstance(record, Mapping):
        raise ValueError(f'{where}: expected an object such as {{"{TEXT}", "{column}"}}, got {checks.shown(record)}')
    text, label = record.get(TEXT), record.get(column)
    if text is None or label is None:
        named = checks.shown(", ".join(map(str, record)) or "no names")
        raise ValueError(
            f'{where}: expected {{"{TEXT}", "{column}"}}, got an object with {named}; label_column (--label-column) '
            "names the label"
        )
    if not isinstance(text, str):
        raise ValueError(f"{where}: {TEXT}: expected a text, got {checks.shown(text)}")
    if isinstance(label, float) and label.is_integer():  # as tables have whole numbers
        label = int(label)
    if not isinstance(label, str | int):
        raise ValueError(f"{where}: {column}: expected a name or a whole number, got {checks.shown(label)}")
    return text, label, where
