"""The first operation in which two updates differ: every tensor of both, in the order in which they are computed.

Both are done again under the core's trace, which computes the bits of the step itself. First each tensor's digest is
compared, so that the tensors need not be kept; then the one that differs is looked at element by element.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np

from loopos.run import gate

from .replay import Repeater


@dataclass(frozen=True)
class Mismatch:
    """phase: "forward", "backward" or "update"; layer: the block, None outside blocks; op, tensor: as in a Birth;
    index: the first element of which the bits differ; a, b: its values; micro_batch: None for an update; because:
    sentences on what else an update used that is not the same."""

    phase: str
    layer: int | None
    op: str
    tensor: str
    index: tuple[int, ...]
    a: float
    b: float
    micro_batch: int | None
    because: tuple[str, ...] = ()

    def __str__(self) -> str:
        where = self.phase if self.phase == "update" else f"{self.phase} pass"
        where += "" if self.layer is None else f", block {self.layer}"
        where += "" if self.micro_batch is None else f", micro-batch {self.micro_batch}"
        values = f"{self.tensor}{list(self.index)} = {self.a!r} in A, {self.b!r} in B"
        return "; ".join([f"op {self.op} ({where}): {values}", *self.because])


def first_mismatch(a: Repeater, b: Repeater) -> Mismatch | None:
    """The first operation of the update of ``a`` that gives other bits than that of ``b``; None when all that both
    compute, up to the weights and moments after the update, is the same. Weights before it are no operation's.

    Both have one configuration and one shape of batch."""
    return _in_passes(a, b) or _in_update(a, b)


@dataclass(frozen=True)
class _Piece:
    """A tensor as it came by, or some of its elements, from ``first`` on."""

    micro_batch: int
    phase: str
    layer: int | None
    op: str
    tensor: str
    shape: tuple[int, ...]
    first: int
    digest: bytes


class _Listener:
    """Called with every tensor of a trace; keeps the elements of one only, the ``wanted``-th."""

    def __init__(self, wanted: int | None = None):
        self.pieces: list[_Piece] = []
        self.elements = np.empty(0)
        self._wanted = wanted

    def __call__(
        self, micro: int, place: Mapping[str, Any], shape: tuple[int, ...], first: int, elements: np.ndarray
    ) -> None:
        if place["op"] == "parameter":
            return
        if len(self.pieces) == self._wanted:
            self.elements = elements
        digest = hashlib.blake2b(elements, digest_size=16).digest() if self._wanted is None else b""
        names = (place[name] for name in ("phase", "layer", "op", "tensor"))
        self.pieces.append(_Piece(micro, *names, shape, first, digest))


def _in_passes(a: Repeater, b: Repeater) -> Mismatch | None:
    listeners = _Listener(), _Listener()
    for repeater, listener in zip((a, b), listeners, strict=True):
        repeater.trace(listener)
    pairs = zip_longest(*(listener.pieces for listener in listeners))
    at = next((i for i, (x, y) in enumerate(pairs) if x != y), None)
    if at is None or at >= min(len(listener.pieces) for listener in listeners):
        return None  # one is the beginning of the other only where both ended in the same number that is not finite
    listeners = _Listener(at), _Listener(at)
    for repeater, listener in zip((a, b), listeners, strict=True):
        repeater.trace(listener)
    piece, x, y = listeners[0].pieces[at], listeners[0].elements, listeners[1].elements
    flat = first_other_bit(x, y)
    index = tuple(int(i) for i in np.unravel_index(piece.first + flat, piece.shape))
    values = float(x[flat]), float(y[flat])
    return Mismatch(piece.phase, piece.layer, piece.op, piece.tensor, index, *values, piece.micro_batch)


def _in_update(a: Repeater, b: Repeater) -> Mismatch | None:
    updates = a.update(), b.update()
    if any(update.birth is not None for update in updates):
        return None  # found in the passes, or both were refused for the same
    results = [{**side.model.parameters(), **_moments(side)} for side in (a, b)]
    for name, x in results[0].items():
        y = results[1].get(name)
        if y is None or (flat := first_other_bit(x, y)) is None:
            continue
        index = tuple(int(i) for i in np.unravel_index(flat, x.shape))
        op, values = a.bundle.settings.optimizer, (float(x[index]), float(y[index]))
        because = _because(a, b, [update.grad_norm for update in updates])
        return Mismatch("update", gate.layer_of(name), op, name, index, *values, None, because)
    return None


def _moments(repeater: Repeater) -> dict[str, np.ndarray]:
    return {name: value for name, value in repeater.optimizer.state_dict().items() if isinstance(value, np.ndarray)}


def _because(a: Repeater, b: Repeater, norms: list[float]) -> tuple[str, ...]:
    """Of what an optimizer uses besides gradients, weights and moments."""
    facts = []
    for side, norm in zip((a, b), norms, strict=True):
        settings = side.bundle.settings
        used = {"the learning rate": side.bundle.learning_rate}
        used |= {"what clipping multiplies the gradient by": gate.clip_factor(norm, settings.max_grad_norm)}
        used |= {
            name: getattr(settings, name)
            for name in ("optimizer", "weight_decay", "betas", "eps", "muon_lr", "moments")
        }
        facts.append(used | {f"the optimizer's {name}": value for name, value in side.bundle.numbers.items()})
    x, y = facts
    return tuple(f"{name} is {x[name]!r} in A, {y[name]!r} in B" for name in x if name in y and x[name] != y[name])


def first_other_bit(x: np.ndarray, y: np.ndarray) -> int | None:
    """The place in the flat array of the first element whose bits differ; None when there is none. Of one dtype and
    shape."""
    bits = np.dtype(f"u{x.dtype.itemsize}")
    different = np.ascontiguousarray(x).view(bits) != np.ascontiguousarray(y).view(bits)
    return int(np.argmax(different)) if different.any() else None
