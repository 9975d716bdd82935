"""A dispatch mode that follows numbers that are not finite from the operation that bore them to the loss.

Every operation whose output is not finite gets a record, with the records of those operands that were not finite
already. From the loss, or a gradient, the way back ends at operations with finite operands: births. What never reaches
the loss is on no way back: an untaken branch of ``where``, a NaN in a row that is dropped. Infinities that a program
writes as constants, such as the -inf of a mask, are legal: they are followed to where they turn into something else.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from .calls import tensors_in
from .elements import Found, find, spoiled
from .finite import is_finite, plain, storage_of
from .places import Place, Places

CONSTANT = {  # operations that write a number of the program
    "full", "full_like", "new_full", "fill", "fill_", "masked_fill", "masked_fill_", "scalar_tensor", "index_fill",
    "index_fill_", "constant_pad_nd", "where", "lift_fresh",
}  # fmt: skip
OVERWRITTEN = {"copy_", "fill_", "zero_", "normal_", "uniform_", "bernoulli_", "exponential_", "random_", "set_"}
EMPTIED = {"logsumexp", "logcumsumexp", "_logcumsumexp", "amax", "max", "amin", "min", "logaddexp", "logaddexp2"}
# an infinity of them is a row of which nothing is left
MASKED = {"_softmax", "_log_softmax", "_safe_softmax", "softmax", "log_softmax", "nll_loss_forward", *EMPTIED}
EMPTY = {"empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided", "empty_permuted"}


class Operation(NamedTuple):
    """A call of an aten operation that can be made again. name: "aten.exp"; args, kwargs: as they were before it."""

    name: str
    overload: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Record:
    """An operation whose output is not finite. order: its number in the pass; parents: the records, or leaves, of the
    operands that were not finite; legal: nothing but infinities that the program wrote as constants; found: element,
    operands and dtype where this operation can be the birth; turned: the same of one that gave a legal infinity another
    sign, so that it counts in a loss."""

    __slots__ = (
        "found", "legal", "name", "operation", "order", "parents", "phase", "place", "storage", "tensor", "turned",
    )  # fmt: skip

    def __init__(self, name: str, order: int, phase: str, place: Place):
        self.name, self.order, self.phase, self.place = name, order, phase, place
        self.parents: list[Record] = []
        self.legal, self.found, self.turned, self.tensor, self.storage = False, None, None, None, None
        self.operation: Operation | None = None

    @property
    def is_leaf(self) -> bool:
        return self.tensor is not None


class Tracer(TorchDispatchMode):
    """Enter it and repeat the step. ``phase`` is set by who repeats it. weights: tensors that are no mask, so that an
    infinity in one is never legal. lost: names of operations that could not be looked into."""

    def __init__(self, places: Places, weights: Iterable[torch.Tensor] = ()):
        super().__init__()
        self._weights = {_key(each) for each in weights}
        self.phase = "forward"
        self.lost: set[str] = set()
        self._places, self._order = places, 0
        self._written: dict[int, Record] = {}  # by storage: the last operation that left something not finite in it
        self._leaves: dict[int, Record] = {}
        self._alive: list[torch.UntypedStorage] = []  # those of leaves, or an address might be used again

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        place = self._places.now()
        if func.is_view and not func._schema.is_mutable:
            return func(*args, **kwargs)
        self._order += 1
        named = _named(func, args, kwargs)
        written = _written_by(func)
        before = {name: _copy(value) if name in written else value for name, value in named.items()}
        output = func(*args, **kwargs)
        outputs = [*_flat(output), *(each for each in _flat([named.get(name) for name in written]))]
        try:
            self._look(func, place, named, before, list({id(each): each for each in outputs}.values()))
        except RuntimeError:  # a layout without a storage, or without sums: it is followed no further
            self.lost.add(func._schema.name.replace("::", "."))
        return output

    def _look(
        self, func: Any, place: Place, named: dict[str, Any], before: dict[str, Any], outputs: list[torch.Tensor]
    ) -> None:
        short = func._schema.name.partition("::")[2]
        bad = [output for output in outputs if not is_finite(output)]
        for output in outputs:
            if not any(output is each for each in bad):
                self._forget(output)
        if not bad:
            return
        record = Record(func._schema.name.replace("::", "."), self._order, self.phase, place)
        operands = {name: value for name, value in before.items() if not (short in OVERWRITTEN and name == "self")}
        for name, value in operands.items():
            for tensor, living in zip(_flat(value), _flat(named[name]), strict=True):
                parent = None if is_finite(tensor) else self.origin(living, tensor)
                if parent is not None and parent not in record.parents:
                    record.parents.append(parent)
        self._judge(record, short, func, before, operands, bad[0], outputs)
        for output in bad:
            self._written[_key(output)] = record

    def _judge(
        self,
        record: Record,
        short: str,
        func: Any,
        before: dict[str, Any],
        operands: dict[str, Any],
        bad: Any,
        outputs: Any,
    ) -> None:
        values = plain(bad)
        has_nan = bool(torch.isnan(values).any())
        kept = all(parent.legal for parent in record.parents)
        if short in EMPTY:
            record.found = Found(index=(0,) * bad.ndim, value=math.nan, operands={}, kind="empty")
        elif not has_nan and kept and self._is_legal(record, short, operands, values):
            record.legal = True
        elif not has_nan and kept and self._only_turns(record, func, operands, bad):
            record.legal, record.turned = True, find(func, operands, bad, _number_of(bad, outputs), False)
        elif not record.parents or kept:
            record.found = find(func, operands, bad, _number_of(bad, outputs), bool(record.parents))
        elif torch.Tag.pointwise in func.tags:
            record.found = find(func, operands, bad, _number_of(bad, outputs), True, only_born=True)
        if record.legal:
            record.storage = _signs(values)
        if record.found is not None:
            given = [argument for argument in func._schema.arguments if argument.name in before]
            positional = tuple(before[argument.name] for argument in given if not argument.kwarg_only)
            named = {argument.name: before[argument.name] for argument in given if argument.kwarg_only}
            record.operation = Operation(record.name, func._overloadname, positional, named)

    def _is_legal(self, record: Record, short: str, operands: dict[str, Any], values: torch.Tensor) -> bool:
        if not record.parents:
            return short in CONSTANT or _is_mask(short, operands)
        if short in CONSTANT:
            return True
        return short not in EMPTIED and _same_signs(values, record.parents)

    @staticmethod
    def _only_turns(record: Record, func: Any, operands: dict[str, Any], bad: torch.Tensor) -> bool:
        """Whether every infinity comes of one of the operands, as in a difference or a product with -1."""
        if not record.parents or torch.Tag.pointwise not in func.tags or func._schema.name == "aten::logaddexp":
            return False
        return not bool((~torch.isfinite(bad) & ~spoiled(operands, bad)).any())

    def origin(self, tensor: torch.Tensor, before: torch.Tensor | None = None) -> Record:
        """The record of the operation that wrote a tensor that is not finite, or of a leaf: nobody wrote it here.
        before: a copy of what it was, if it has been overwritten."""
        key = _key(tensor)
        if key in self._written:
            return self._written[key]
        if key not in self._leaves:
            leaf = Record("leaf", self._order, self.phase, Place("", ""))
            leaf.tensor = tensor.detach() if before is None else before
            leaf.tensor = leaf.tensor if leaf.tensor.layout is torch.strided else plain(leaf.tensor)
            values = plain(leaf.tensor)
            leaf.legal = key not in self._weights and bool((values[~torch.isfinite(values)] == -math.inf).all())
            leaf.storage = _signs(values) if leaf.legal else None
            self._leaves[key] = leaf
            self._alive.append(storage_of(tensor))
        return self._leaves[key]

    def _forget(self, output: torch.Tensor) -> None:
        """A finite tensor that fills its storage: what stood at this address before is gone."""
        record = self._written.get(_key(output)) if self._written else None
        if record is not None and output.numel() * output.itemsize >= storage_of(output).nbytes():
            del self._written[_key(output)]

    def birth(self, ends: Iterable[torch.Tensor]) -> Record | None:
        """The earliest birth on a way back from tensors that are not finite."""
        sources = [source for end in ends for source in _sources(self.origin(end))]
        return min(sources, key=lambda record: (_is_empty(record), record.order), default=None)


def _is_empty(record: Record) -> bool:
    """Memory that nobody wrote: to blame when nothing else is, for most of it is written before it is read."""
    return record.found is not None and record.found.kind == "empty"


def _sources(end: Record) -> Iterator[Record]:
    """Births behind a record. Legal infinities are none, unless nothing else is there: then it is the operation that
    made them count, or else the one that wrote them."""
    seen, waiting, legal = {id(end)}, [end], []
    found, turned = [], []
    while waiting:
        record = waiting.pop()
        if record.found is not None or (record.is_leaf and not record.legal):
            found.append(_to_leaf(record))
            if record.parents and all(parent.legal for parent in record.parents):
                continue
        elif record.turned is not None:
            turned.append(_to_leaf(record))
        elif record.legal and not record.parents:
            legal.append(record)
        for parent in record.parents:
            if id(parent) not in seen:
                seen.add(id(parent))
                waiting.append(parent)
    yield from found or turned or legal


def _to_leaf(record: Record) -> Record:
    """A number that came of the -inf of the data was born there, unless that is a mask: nothing but 0 and -inf."""
    if record.is_leaf or record.name.partition(".")[2] in MASKED or "attention" in record.name:
        return record
    waiting = list(record.parents)
    while waiting:
        parent = waiting.pop()
        if parent.is_leaf:
            values = plain(parent.tensor)
            return record if bool((values[torch.isfinite(values)] == 0).all()) else parent
        waiting += parent.parents
    return record


def _named(func: Any, args: Any, kwargs: Any) -> dict[str, Any]:
    names = [argument.name for argument in func._schema.arguments]
    return dict(zip(names, args, strict=False)) | dict(kwargs)


def _written_by(func: Any) -> list[str]:
    if not func._schema.is_mutable:
        return []
    return [each.name for each in func._schema.arguments if each.alias_info is not None and each.alias_info.is_write]


def _copy(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    return [_copy(each) for each in value] if isinstance(value, (list, tuple)) else value


def _flat(value: Any) -> list[torch.Tensor]:
    found = (tensor for _, tensor in tensors_in(value))
    return [tensor for tensor in found if tensor.is_floating_point() or tensor.is_complex()]


def _key(tensor: torch.Tensor) -> int:
    return storage_of(tensor)._cdata


def _number_of(bad: torch.Tensor, outputs: list[torch.Tensor]) -> int | None:
    return next((at for at, each in enumerate(outputs) if each is bad), 0) if len(outputs) > 1 else None


def _signs(values: torch.Tensor) -> tuple[bool, bool]:
    return bool((values == math.inf).any()), bool((values == -math.inf).any())


def _same_signs(values: torch.Tensor, parents: list[Record]) -> bool:
    """No infinity that the operands had only with the other sign."""
    plus, minus = _signs(values)
    had = [parent.storage or (False, False) for parent in parents]
    return (not plus or any(each[0] for each in had)) and (not minus or any(each[1] for each in had))


def _is_mask(short: str, operands: dict[str, Any]) -> bool:
    """The least number of a dtype, which masks are made of, cast to a smaller one or added to a score."""
    if short not in ("_to_copy", "to", "add", "add_", "mul", "mul_", "copy_", "masked_fill"):
        return False
    for tensor in _flat(list(operands.values())):
        values = plain(tensor)
        if values.numel() and float(values.min()) <= 0.99 * torch.finfo(values.dtype).min:
            return True
    return False
