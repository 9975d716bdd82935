"""What a command answers: a text for a person and the same as JSON for a program. ``main`` prints one of the two."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Mapping, Set
from typing import Any, NamedTuple, TextIO

import numpy as np


class Reply(NamedTuple):
    """data: a dict that :func:`to_json` can write; text: None where the command has printed all of it already."""

    data: Mapping[str, Any]
    text: str | None = None
    code: int = 0


def plain(value: Any) -> Any:
    """``value`` in types of JSON. A dataclass or NamedTuple becomes an object, an array a list; a number that is not
    finite becomes null, for strict JSON has none; what else there is becomes its text."""
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist())
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if hasattr(value, "_asdict"):
        return plain(value._asdict())
    if isinstance(value, list | tuple | Set):
        return [plain(item) for item in value]
    return str(value)


def to_json(value: Any) -> str:
    """One line."""
    return json.dumps(plain(value), ensure_ascii=False, allow_nan=False)


def print_json(value: Any, stream: TextIO | None = None) -> None:
    """A line on ``stream`` (None: stdout), at once: who reads the lines of a long run waits for each."""
    stream = sys.stdout if stream is None else stream
    stream.write(to_json(value) + "\n")
    stream.flush()
