"""Buffers that a program writes as it goes, and that are not finite while loss and gradients are: the running variance
of a batch norm, a moving average. Training goes on beside them; evaluation and every checkpoint have them.

A mask of -inf is no such buffer: what was infinite when it was first seen may be so, and so may a matrix with -inf and
no other, and a row of 0 and -inf.
"""

from __future__ import annotations

import torch

from loopos.monitor.monitor import Alarm

from .calls import Buffers
from .finite import Norms, plain


class Running:
    """Of one model. buffers: knows which of them the forward pass writes; others are looked at when PyTorch's count of
    writes says that there is news."""

    def __init__(self, model: torch.nn.Module, buffers: Buffers):
        self._model, self._buffers = model, buffers
        self._seen: dict[str, tuple[int, int, torch.Size]] = {}  # of each at the last look: its identity, writes, shape
        self._may: set[str] = set()  # names of those that may be infinite
        self._told: set[str] = set()
        for name, buffer, _ in self._broken():
            (self._told if bool(torch.isnan(plain(buffer)).any()) else self._may).add(name)

    def look(self, step: int) -> list[Alarm]:
        """What was not told before, of the buffers as they are in this step."""
        found = []
        for name, buffer, before in self._broken():
            numbers = plain(buffer)
            if not bool(torch.isnan(numbers).any()):
                if before is None or before[2] != buffer.shape or _is_mask(numbers):
                    self._may.add(name)
                if name in self._may:
                    continue
            if name not in self._told:
                self._told.add(name)
                found.append(_alarm(step, name, buffer))
        return found

    def _broken(self) -> list[tuple[str, torch.Tensor, tuple[int, int, torch.Size] | None]]:
        """(name, buffer, what was seen of it at the look before) of those with news that are not finite."""
        news, written = [], self._buffers.written
        for name, buffer in self._model.named_buffers():
            if not (buffer.is_floating_point() or buffer.is_complex()) or buffer.is_meta or not buffer.numel():
                continue
            before = self._seen.get(name)
            now = id(buffer), 0 if buffer.is_inference() else buffer._version, buffer.shape
            if before != now or written is None or name in written:
                news.append((name, buffer.float() if buffer.itemsize == 1 else buffer, before))
                self._seen[name] = now
        bad = set(Norms([each for _, each, _ in news]).bad)
        return [each for at, each in enumerate(news) if at in bad]


def _is_mask(numbers: torch.Tensor) -> bool:
    infinite = torch.isinf(numbers)
    if not bool((numbers[infinite] < 0).all()):
        return False
    return numbers.ndim > 1 or not bool(numbers[~infinite].any())


def _alarm(step: int, name: str, buffer: torch.Tensor) -> Alarm:
    bad = ~torch.isfinite(buffer)
    index = tuple(int(at) for at in bad.nonzero()[0]) if buffer.ndim else ()
    value = buffer.detach()[index]
    number = float(value) if not value.is_complex() else float(abs(value))
    where = f"{name}{list(index)}" if index else name
    text = (
        f"{where} = {number:g}: {int(bad.sum())} of {buffer.numel()} numbers of this buffer are not finite, which no "
        "loss and no gradient shows; evaluation and checkpoints have it. Look at what its module is given, and reset it"
    )
    return Alarm(step, "buffer", number, "finite numbers", text)
