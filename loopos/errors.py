"""The exceptions of LoopOS that are more than a sentence: they carry the facts as attributes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Birth:
    """Where a number first went bad.

    step: updates counted from 1 as in ``history``; None outside :func:`loopos.train`.
    phase: "forward", "backward" or "update".
    layer: block number, None outside blocks.
    op: the operation whose output is the first that is not finite, or "parameter" for a weight that was bad before.
    tensor: the name of that output (or weight, or gradient).
    index: the element, as a tuple into that tensor.
    value: the offending value (NaN, inf or -inf).
    cause: a sentence on how such a value comes about.
    """

    step: int | None
    phase: str
    layer: int | None
    op: str
    tensor: str
    index: tuple[int, ...]
    value: float
    cause: str

    def __str__(self) -> str:
        where = [f"step {self.step}"] if self.step is not None else []
        where.append(f"{self.phase} pass" if self.phase in ("forward", "backward") else self.phase)
        if self.layer is not None:
            where.append(f"block {self.layer}")
        where.append(f"op {self.op}")
        value = "NaN" if math.isnan(self.value) else f"{self.value}"
        return f"{', '.join(where)}: {self.tensor}{list(self.index)} = {value} ({self.cause})"


class NonFiniteError(FloatingPointError):
    """A loss, activation, gradient or update is NaN or infinite. Weights and optimizer are as before the step.

    birth: where it arose. bundle: the path of the file from which :func:`loopos.replay` repeats the step; None when
    there is none (no output_dir, or the file could not be written: the message says why)."""

    def __init__(self, birth: Birth, message: str | None = None, bundle: Path | None = None):
        super().__init__(message or f"a number is not finite; nothing was updated. {birth}")
        self.birth = birth
        self.bundle = bundle

    def __reduce__(self):  # the default would call NonFiniteError(message) in the receiving process
        return (type(self), (self.birth, str(self), self.bundle))

    def add(self, sentence: str, bundle: Path | None = None) -> None:
        """Say more, once more is known."""
        self.args = (f"{self}. {sentence}",)
        self.bundle = bundle


class CheckpointError(ValueError):
    """A file that cannot be trusted: ``path``, ``what`` is wrong with it, ``offset`` in bytes where known."""

    def __init__(self, path, what: str, offset: int | None = None):
        at = "" if offset is None else f" (at byte {offset})"
        super().__init__(f"{path}: {what}{at}")
        self.path = str(path)
        self.what = what
        self.offset = offset

    def __reduce__(self):
        return (type(self), (self.path, self.what, self.offset))
