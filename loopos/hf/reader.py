"""The keys of one config.json, checked as a family takes them; what no family takes is refused by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from loopos.checks import shown
from loopos.errors import CheckpointError

from .known import QUANTIZATION, is_bookkeeping, quantized_with


class Settings:
    """A config.json of which keys are taken one by one. CheckpointError: a key is missing, or of a wrong type or size;
    ValueError: a value that LoopOS does not compute."""

    def __init__(self, path: Path, values: Mapping[str, Any]):
        self.path, self.values, self.taken = path, values, set()

    def take(self, key: str, default: Any = None) -> Any:
        """The value as it stands there."""
        self.taken.add(key)
        return self.values.get(key, default)

    def size(self, key: str, *, optional: bool = False, absent: int | None = None) -> int | None:
        """A positive integer; optional ones may be null, or are ``absent`` where the key is not there."""
        value = self.take(key, absent)
        if value is None and optional:
            return None
        if value is None and key not in self.values:
            raise CheckpointError(self.path, f"the required setting {key} is missing")
        if type(value) is not int or value < 1:
            raise CheckpointError(self.path, f"{key} must be an integer of at least 1, got {shown(value)}")
        return value

    def positive(self, key: str, default: float) -> float:
        return number(self.path, key, self.take(key, default), "greater than 0", lambda x: 0 < x < math.inf)

    def probability(self, key: str, default: float) -> float:
        return number(self.path, key, self.take(key, default), "at least 0 and below 1", lambda x: 0 <= x < 1)

    def flag(self, key: str, default: bool) -> bool:
        value = self.take(key, default)
        if type(value) is not bool:
            raise CheckpointError(self.path, f"{key} must be true or false, got {shown(value)}")
        return value

    def table(self, key: str) -> dict[str, Any]:
        """An object, empty where null or absent."""
        value = self.take(key)
        if value is not None and type(value) is not dict:
            raise CheckpointError(self.path, f"{key} must be an object, got {shown(value)}")
        return value or {}

    def choice(self, key: str, default: str, choices: Mapping[str, str]) -> str:
        value = self.take(key, default)
        if type(value) is not str:
            raise CheckpointError(self.path, f"{key} must be a string, got {shown(value)}")
        if value not in choices:
            raise self.unsupported(key, value, f"it must be one of {', '.join(choices)}")
        return choices[value]

    def unsupported(self, key: str, value: Any, why: str) -> ValueError:
        return ValueError(f"{self.path}: the setting {key} = {shown(value)} is not supported: {why}")

    def finish(self, neutral: Mapping[str, tuple], harmless: frozenset[str]) -> None:
        """Refuse what is left and could change the numbers."""
        for key, value in self.values.items():
            if key in self.taken or value is None or is_bookkeeping(key, harmless):
                continue
            if key in QUANTIZATION:
                if (method := quantized_with(value)) is not None:
                    raise ValueError(
                        f"{self.path}: {key} says that the weights are quantized ({method}); LoopOS reads "
                        "weights of F64, F32, F16 and BF16. Take the model's folder that is not quantized, or save it "
                        "again after model.dequantize() of transformers"
                    )
                continue
            if key not in neutral:
                raise self.unsupported(key, value, "LoopOS does not know it; drop it if it changes no numbers")
            if not any(type(value) is type(same) and value == same for same in neutral[key]):
                raise self.unsupported(key, value, f"it must be {' or '.join(map(repr, neutral[key])) or 'null'}")


def number(path: Path, key: str, value: Any, expected: str, fits: Callable[[float], bool]) -> float:
    """``value`` of ``key`` as a float. CheckpointError where it is none, or does not fit what is ``expected``."""
    if type(value) not in (int, float):
        raise CheckpointError(path, f"{key} must be a number, got {shown(value)}")
    try:
        result = float(value)
    except OverflowError:  # an integer beyond the largest float
        result = math.inf
    if not fits(result):
        raise CheckpointError(path, f"{key} must be a finite number {expected}, got {shown(value)}")
    return result
