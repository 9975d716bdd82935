"""The exceptions of LoopOS that are more than a sentence: they carry the facts as attributes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from numbers import Real
from pathlib import Path
from typing import Any

CAUSES = (
    "exp overflow",
    "product overflow",
    "sum overflow",
    "norm overflow",
    "inf - inf",
    "0*inf",
    "0/0",
    "x/0",
    "log 0",
    "negative root",
    "outside the domain",
    "cast overflow",
    "all-masked row",
    "label out of range",
    "input not finite",
    "weight not finite",
    "learning rate too large",
    "weight decay too large",
    "eps floor active",
    "unknown",
)


@dataclass(frozen=True, eq=False)
class Birth:
    """Where a number first went bad. Two are equal when they say the same: a NaN is equal to a NaN here.

    step: updates counted from 1 as in ``history``; None outside :func:`loopos.train`.
    phase: "forward", "backward" or "update".
    layer: block number, None outside blocks, and of a watched program.
    op: the operation whose output is the first that is not finite, or "parameter" for a weight that was bad before.
    tensor: the name of that output (or weight, or gradient).
    index: the element, as a tuple into that tensor.
    value: the offending value (NaN, inf or -inf).
    cause: one of CAUSES, a colon, and how the value came about in words and numbers.
    micro_batch: which of the step's, from 0; None where there is only one or none is to blame.
    place: ``index`` in words: row and token of the batch, head, channel.
    operands: what the operation read for this element, before: a number by its name, or for a row of numbers their
        count, least, greatest, and the decisive one ("value") with its place in the row ("at").
    advice: what to do next.
    ledger: the last tensors up to this one, in the order of execution: see :func:`loopos.trace_step`.
    raised: the operations of the micro-batch, before it was repeated, that raised floating-point flags, in the order of
        a pass: dicts of phase, layer, op, tensor (the first that the operation gives), flags ("invalid", "divide",
        "overflow") and finite (all of that tensor, and of attention the scores that are not masked). Evidence beside
        the others, and no part of ``==``: a bundle of an earlier version has none.
    module, source: of a program of PyTorch (:mod:`loopos.watch`), the path of the module that called the operation, and
        "file:line"; of a backward operation, those of the forward operation that it belongs to.
    first_row: of a batch that is cut into shards, where the shard begins whose rows ``index`` counts.
    rank: of a run over several processes, which of them found it, in words ("rank 2 of 4"); no part of ``==``.
    """

    step: int | None
    phase: str
    layer: int | None
    op: str
    tensor: str
    index: tuple[int, ...]
    value: float
    cause: str
    micro_batch: int | None = None
    place: str = ""
    operands: Mapping[str, Any] = field(default_factory=dict, hash=False)
    advice: str = ""
    ledger: tuple[Mapping[str, Any], ...] = field(default=(), repr=False, hash=False)
    raised: tuple[Mapping[str, Any], ...] = field(default=(), repr=False, compare=False)
    first_row: int = 0
    rank: str = field(default="", repr=False, compare=False)
    module: str | None = None
    source: str | None = None

    @property
    def cause_class(self) -> str:
        """The one of CAUSES that ``cause`` begins with; "unknown" for other words."""
        begins = self.cause.partition(":")[0]
        return begins if begins in CAUSES else "unknown"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Birth):
            return NotImplemented
        names = [each.name for each in fields(self) if each.compare]
        return all(_as_said(getattr(self, name)) == _as_said(getattr(other, name)) for name in names)

    def __hash__(self) -> int:
        return hash(
            tuple(_as_said(getattr(self, each.name)) for each in fields(self) if each.compare and each.hash is None)
        )

    def __str__(self) -> str:
        where = [f"step {self.step}"] if self.step is not None else []
        where.append(f"{self.phase} pass" if self.phase in ("forward", "backward") else self.phase)
        if self.layer is not None:
            where.append(f"block {self.layer}")
        where.append(f"op {self.op}")
        value = "NaN" if math.isnan(self.value) else f"{self.value}"
        return f"{', '.join(where)}: {self.tensor}{list(self.index)} = {value} ({self.cause})"


def _as_said(value: Any) -> Any:
    """A value as it is compared and hashed, with a NaN that is equal to itself."""
    if isinstance(value, Mapping):
        return {name: _as_said(each) for name, each in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value)(map(_as_said, value))
    return "NaN" if isinstance(value, Real) and value != value else value


def raised_in(operation: Mapping[str, Any]) -> str:
    """Of a Birth's ``raised``, or of a frame with flags, in words."""
    flags, tensor = ", ".join(operation["flags"]), operation["tensor"] or "a place unknown"
    return f"{flags} in computing {tensor} (op {operation['op']}, {operation['phase']})"


class RankError(RuntimeError):
    """A training over several processes has ended because of another one than this: the text names it, and rank 0's
    stderr has it already."""

    told = True  # nobody needs to print it


class NonFiniteError(FloatingPointError):
    """A loss, activation, gradient or update is NaN or infinite. Weights and optimizer are as before the step.

    birth: where it arose. bundle: the path of the file from which :func:`loopos.replay` repeats the step; None when
    there is none (no output_dir, or the file could not be written: the message says why). updated: the step is done all
    the same, and the message says so."""

    def __init__(self, birth: Birth, message: str | None = None, bundle: Path | None = None, *, updated: bool = False):
        where = f". That is {birth.place}" if birth.place else ""
        if birth.micro_batch is not None:
            where += f"{',' if where else '. That is in'} micro-batch {birth.micro_batch}"
        if birth.first_row:
            where += f", whose row {birth.first_row} is the first that is counted here"
        if birth.rank:
            where += f"{',' if where else '. That is'} on {birth.rank}"
        if birth.raised:
            of = "the step" if birth.micro_batch is None else "that micro-batch"  # an earlier one may have raised some
            where += f". The first floating-point flags of {of}: {raised_in(birth.raised[0])}"
        advice = f". What to do: {birth.advice}" if birth.advice else ""
        done = "the update happens all the same" if updated else "nothing was updated"
        super().__init__(message or f"a number is not finite; {done}. {birth}{where}{advice}")
        self.birth = birth
        self.bundle = bundle

    @property
    def ledger(self) -> list[Mapping[str, Any]]:
        """The last tensors up to the birth, with their least, greatest, root mean square, share of zeros and of
        numbers that are not finite."""
        return list(self.birth.ledger)

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


class NotPositiveDefiniteError(ValueError):
    """A matrix of :mod:`loopos.linalg` is not positive definite. ``batch``: which, as a tuple of the axes before the
    matrix; ``pivot``: the step of the elimination, from 0, or the number of the eigenvalue; ``value``: what was there
    instead of a number above 0."""

    def __init__(self, message: str, batch: tuple[int, ...], pivot: int, value: float):
        super().__init__(message)
        self.batch, self.pivot, self.value = batch, pivot, value

    def __reduce__(self):
        return (type(self), (str(self), self.batch, self.pivot, self.value))


class AmplificationError(ValueError):
    """:func:`loopos.linalg.trace_normalize` refused to multiply a matrix by ``factor``. ``batch``: which, as a tuple of
    the axes before the matrix; ``trace``: its trace; ``floor``: what the trace was to be at least."""

    def __init__(self, message: str, batch: tuple[int, ...], trace: float, floor: float, factor: float):
        super().__init__(message)
        self.batch, self.trace, self.floor, self.factor = batch, trace, floor, factor

    def __reduce__(self):
        return (type(self), (str(self), self.batch, self.trace, self.floor, self.factor))
